"""Other systems' defaults and conventions, as hyperparameters: ``fastopt.Adam(w, like="optax")`` is optax.adam.

A preset only overrides defaults of a rule. So it changes coefficients, and never the compiled code. What you give
beside `like` overrides the preset in turn. Read in torch 2.13, optax 0.2.8, Keras 3.15 and scikit-learn 1.9.

Coming from torch (torch.optim). Its ``betas=(b1, b2)`` are `b1` and `b2` here, and ``decoupled_weight_decay=True`` is
``decay="decoupled"``.

{torch}

Coming from optax (optax._src.alias, optax._src.transform, optax.transforms._accumulation), which has no default lr.

{optax}

Coming from Keras (keras.src.optimizers). Its weight_decay is decoupled in every optimizer (in SGD both decays are one);
its learning_rate is `lr` here, and beta_1 is `b1`.

{keras}

Coming from scikit-learn (sklearn.neural_network._stochastic_optimizers, the solvers of MLPClassifier and MLPRegressor).
These are the defaults of SGDOptimizer and AdamOptimizer. MLPClassifier itself passes learning_rate_init=0.001 to both.

{sklearn}

The penalty alpha of an MLP is coupled decay of the weights, not of the intercepts: weight_decay = alpha / batch size.

What no coefficient expresses, and what to do:

- torch and Keras have momentum 0 by default. With ``like=``, momentum and nesterov keep 0.9. Use ``SGD`` for 0.
- optax.rmsprop has initial_scale and nesterov=True, and optax's adabelief and adopt have nesterov=True: these are not
  here. bias_correction=True of optax.rmsprop is ``Adam(b1=0, b2=0.9, eps=0, eps_root=1e-8)``.
- A centered RMSProp cuts a variance that rounding made negative to 0 here; these systems give NaN there.
- optax.adan weighs the difference of gradients by 1 - b2, the authors' code and we by b2.
- optax.rprop takes each step one step later than torch's and ours.
- optax.radam rectifies from length == threshold on, torch and we from length > threshold on. The eps_root of
  optax.radam and optax.nadam is not here, nor are radam(nesterov=True) and the bias_correction flags of optax.amsgrad.
- optax.adagrad leaves p alone where the sum is 0; with initial_accumulator_value=0 and eps=0 ours divides 0 by 0 there.
- torch keeps step counts, and NAdam's running product, in its default dtype: float32 even beside float64 parameters
  (1e-8 off in NAdam, and a count that stops at 2**24). ``torch.set_default_dtype(torch.float64)`` makes it agree.
- optax's second moment of a complex parameter is of the modulus, here and in torch of each part:
  ``optax.contrib.split_real_and_imaginary(optax.adam(lr))`` agrees. jax.grad returns the conjugate of our gradient.
- torch refuses dampening with nesterov. Here it is taken; it dampens the velocity, but not the g beside it.
- In float32 these systems round 1 - b and b**t in their own ways, and optax's counter stops at 2**31 - 1. Our
  coefficients are float64, and right at any step. So the systems agree with us to their rounding, not bit by bit.
"""
from textwrap import wrap
from typing import Any

__all__ = ["PRESETS", "TWINS", "preset"]

HAT: dict[str, Any] = {"eps": 1e-7, "eps_mode": "hat"}
INSIDE: dict[str, Any] = {"eps": 0.0, "eps_root": 1e-7}
OUTSIDE: dict[str, Any] = {"form": "outside"}
VELOCITY: dict[str, Any] = {"form": "negative"}
RMS = ("rmsprop", "rmsprop_momentum", "rmsprop_centered", "rmsprop_centered_momentum")
DECOUPLED: dict[str, Any] = {"decay": "decoupled"}

#: {system: {rule: the hyperparameters that make it that system's}}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "torch": {
        **{name: {} for name in ("sgd", "rprop", "rmsprop", "rmsprop_centered", "adagrad", "adadelta", "adam", "adamw",
                                 "adamax", "amsgrad", "nadam", "radam")},
        "rmsprop_momentum": OUTSIDE, "rmsprop_centered_momentum": OUTSIDE,
        "momentum": {**OUTSIDE, "first_step": "copy"}, "nesterov": {**OUTSIDE, "shifted": True}},
    "optax": {
        **{name: {} for name in ("sgd", "adadelta", "adam", "adamax", "adabelief", "adopt", "ademamix")},
        "momentum": OUTSIDE, "nesterov": {**OUTSIDE, "shifted": True}, "signum": {"b1": 0.0},
        **{name: {"alpha": 0.9, "eps": 0.0, "eps_root": 1e-8} for name in RMS},
        "adagrad": {"initial_accumulator_value": 0.1, **INSIDE}, "adamw": {"weight_decay": 1e-4},
        "yogi": {"initial_moment": 1e-6}, "amsgrad": {"maximum_of": "corrected"},
        "nadam": {"schedule": "optax"}, "radam": {"eps_mode": "outside"},
        "lion": {"weight_decay": 1e-3}, "lamb": {"weight_decay": 0.0}, "lars": {"weight_decay": 0.0}},
    "keras": {
        "sgd": {"lr": 1e-2}, "momentum": {"lr": 1e-2, **VELOCITY, **DECOUPLED},
        "nesterov": {"lr": 1e-2, **VELOCITY, "shifted": True, **DECOUPLED},
        **{name: {"lr": 1e-3, "alpha": 0.9, **INSIDE, **DECOUPLED} for name in RMS},
        "adagrad": {"lr": 1e-3, "initial_accumulator_value": 0.1, **INSIDE, **DECOUPLED},
        "adadelta": {"lr": 1e-3, "alpha": 0.95, "eps": 1e-7, **DECOUPLED},
        "adamax": {"lr": 1e-3, "eps": 1e-7, "eps_mode": "outside", **DECOUPLED},
        "adam": {**HAT, **DECOUPLED}, "adamw": {**HAT, "weight_decay": 4e-3}, "amsgrad": {**HAT, **DECOUPLED},
        "nadam": {"lr": 1e-3, "eps": 1e-7, "momentum_decay": 1.0, **DECOUPLED}, "lion": {"lr": 1e-3}},
    "sklearn": {
        "sgd": {"lr": 0.1}, "momentum": {"lr": 0.1, **VELOCITY}, "nesterov": {"lr": 0.1, **VELOCITY, "shifted": True},
        "adam": {"eps_mode": "hat"}},
}

OUT = "lr multiplies the velocity on its way out"
THE_POINT = "the stored p is the look-ahead point"
#: {system: {rule: (what it is called there, what differs from fastopt's defaults)}}
TWINS: dict[str, dict[str, tuple[str, str]]] = {
    "torch": {
        "sgd": ("SGD", "nothing"),
        "momentum": ("SGD(momentum=0.9)", f"{OUT}; the first velocity is g, undampened"),
        "nesterov": ("SGD(momentum=0.9, nesterov=True)", f"{OUT}; {THE_POINT}"),
        "rprop": ("Rprop", "nothing; etas=(eta_minus, eta_plus), step_sizes=(size_min, size_max)"),
        "rmsprop": ("RMSprop", "nothing"), "rmsprop_momentum": ("RMSprop(momentum=0.9)", OUT),
        "rmsprop_centered": ("RMSprop(centered=True)", "nothing"),
        "rmsprop_centered_momentum": ("RMSprop(momentum=0.9, centered=True)", OUT),
        "adagrad": ("Adagrad", "nothing"), "adadelta": ("Adadelta", "nothing; rho is alpha here"),
        "adam": ("Adam", "nothing"), "adamw": ("AdamW", "nothing"), "adamax": ("Adamax", "nothing"),
        "amsgrad": ("Adam(amsgrad=True)",
                    'nothing; for AdamW(amsgrad=True) give weight_decay=0.01, decay="decoupled"'),
        "nadam": ("NAdam", "nothing"),
        "radam": ("RAdam", "nothing: its eps stands beside sqrt(v), not beside sqrt(v/c2)")},
    "optax": {
        "sgd": ("sgd", "nothing"), "momentum": ("sgd(lr, 0.9)", OUT),
        "nesterov": ("sgd(lr, 0.9, nesterov=True)", f"{OUT}; {THE_POINT}"),
        "signum": ("sign_sgd", "no momentum: b1 = 0"),
        "rmsprop": ("rmsprop", "decay 0.9 (alpha here); eps inside the root (eps_root here)"),
        "rmsprop_momentum": ("rmsprop(lr, momentum=0.9)", "as rmsprop"),
        "rmsprop_centered": ("rmsprop(lr, centered=True)", "as rmsprop"),
        "rmsprop_centered_momentum": ("rmsprop(lr, centered=True, momentum=0.9)", "as rmsprop"),
        "adagrad": ("adagrad", "the sum starts at 0.1; eps 1e-7 inside the root (eps_root here)"),
        "adadelta": ("adadelta", "nothing"), "adam": ("adam", "nothing"), "adamw": ("adamw", "weight_decay 1e-4"),
        "adamax": ("adamax", "nothing"), "adabelief": ("adabelief", "nothing"),
        "yogi": ("yogi", "the first moment starts at 1e-6, too"), "adopt": ("contrib.adopt", "nothing"),
        "amsgrad": ("amsgrad", "the maximum is taken over v/c2"),
        "nadam": ("nadam", "b1 at every step instead of a schedule; for nadamw give weight_decay=1e-4 and "
                           'decay="decoupled"'),
        "radam": ("radam", "eps beside sqrt(v/c2)"), "ademamix": ("contrib.ademamix", "nothing"),
        "lion": ("lion", "weight_decay 1e-3"), "lamb": ("lamb", "weight_decay 0"),
        "lars": ("lars", "weight_decay 0 (with another one, optax takes the norm of gradient and decay)")},
    "keras": {
        "sgd": ("SGD", "lr 0.01"), "momentum": ("SGD(momentum=0.9)", "lr 0.01; the velocity holds -lr"),
        "nesterov": ("SGD(momentum=0.9, nesterov=True)", f"as momentum; {THE_POINT}"),
        "rmsprop": ("RMSprop", "lr 1e-3; rho 0.9 (alpha here); epsilon 1e-7 inside the root (eps_root here)"),
        "rmsprop_momentum": ("RMSprop(momentum=0.9)", "as rmsprop"),
        "rmsprop_centered": ("RMSprop(centered=True)", "as rmsprop"),
        "rmsprop_centered_momentum": ("RMSprop(centered=True, momentum=0.9)", "as rmsprop"),
        "adagrad": ("Adagrad", "lr 1e-3; the sum starts at 0.1; epsilon 1e-7 inside the root (eps_root here)"),
        "adadelta": ("Adadelta", "lr 1e-3; rho 0.95 (alpha here); epsilon 1e-7"),
        "adam": ("Adam", 'epsilon 1e-7 beside sqrt(v) (eps_mode="hat")'),
        "adamw": ("AdamW", "as adam; weight_decay 0.004"),
        "adamax": ("Adamax", "lr 1e-3; epsilon 1e-7 beside the maximum"),
        "amsgrad": ("Adam(amsgrad=True)", "as adam"),
        "nadam": ("Nadam", "lr 1e-3; epsilon 1e-7; the momentum schedule decays 250 times faster than torch's"),
        "lion": ("Lion", "lr 1e-3")},
    "sklearn": {
        "sgd": ("SGDOptimizer(momentum=0, nesterov=False)", "lr 0.1"),
        "momentum": ("SGDOptimizer(nesterov=False)", "lr 0.1; the velocity holds -lr"),
        "nesterov": ("SGDOptimizer", f"as momentum; {THE_POINT}"),
        "adam": ("AdamOptimizer", 'eps beside sqrt(v) (eps_mode="hat")')},
}


def _table(rows: dict[str, tuple[str, str]]) -> str:
    """Twins as a table of reStructuredText, at most 120 columns wide."""
    first = max(map(len, rows)), max(len(there) for there, _ in rows.values())
    last = 118 - sum(first)
    edge = " ".join("="*width for width in (*first, last))
    cells = [("rule", "there", "what differs from fastopt's defaults"), *((k, *v) for k, v in rows.items())]
    lines = [f"{rule if k == 0 else '':{first[0]}} {there if k == 0 else '':{first[1]}} {part}"
             for rule, there, differs in cells for k, part in enumerate(wrap(differs, last))]
    return "\n".join([edge, lines[0], edge, *lines[1:], edge])


if __doc__:
    __doc__ = __doc__.format(**{system: _table(rows) for system, rows in TWINS.items()})


def preset(like: str, rule_name: str) -> dict[str, Any]:
    """The hyperparameters that make a rule the optimizer of that system, in a new dict.

    Parameters
    ----------
    like : {"torch", "optax", "keras", "sklearn"}
        The system.
    rule_name : str
        The rule's name, "adam" for example.

    Returns
    -------
    dict
        {hyperparameter: value}. They override the rule's defaults; what the user gives overrides them.

    Raises
    ------
    ValueError
        If the system is unknown or has no such optimizer.

    Examples
    --------
    >>> preset("keras", "adam")
    {'eps': 1e-07, 'eps_mode': 'hat', 'decay': 'decoupled'}
    """
    if not isinstance(like, str) or like not in PRESETS:
        raise ValueError(f"like: {like!r} was found, one of {', '.join(PRESETS)} was needed. Take one of these, or "
                         "leave `like` out.")
    if rule_name not in PRESETS[like]:
        raise ValueError(f"like={like!r}: the rule {rule_name} was found, one that {like} has was needed: "
                         f"{', '.join(PRESETS[like])}. Leave `like` out and give the hyperparameters.")
    return dict(PRESETS[like][rule_name])
