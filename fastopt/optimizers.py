"""The optimizers by name: each is made from its rule; none inherits from another. `optimizers.pyi` shows editors the same."""
import inspect
import sys
from collections.abc import Callable
from inspect import cleandoc
from textwrap import fill, indent
from typing import Any

from . import rules
from ._rule.attributes import InGroups, Own
from ._rule.rule import Rule
from .optimizer import Optimizer

REST = {"like": None, "state": None, "rounding": "nearest", "average": None, "copy": None, "seed": 0, "threads": None,
        "capturable": None}


def signature(rule: Rule) -> inspect.Signature:
    """The constructor's signature: parameters, learning rate, the rule's hyperparameters, and what all have."""
    P = inspect.Parameter
    own = [P(k, P.KEYWORD_ONLY, default=v) for k, v in rule.defaults.items() if k != "lr"]
    rest = [P(k, P.KEYWORD_ONLY, default=v) for k, v in REST.items()]
    first = [P("params", P.POSITIONAL_OR_KEYWORD), P("lr", P.POSITIONAL_OR_KEYWORD, default=rule.defaults["lr"])]
    return inspect.Signature([*first, *own, *rest])


def optimizer(rule: Rule, name: str | None = None, doc: str | None = None) -> Callable[..., Optimizer]:
    """The optimizer class of a rule, your own rules included.

    Parameters
    ----------
    rule : rule
        Made with `fastopt.rule`.
    name : str, optional
        The class's name; by default the rule's, in capitals: ``heavy_ball`` becomes ``HeavyBall``.
    doc : str, optional
        Its docstring; by default the rule's.

    Returns
    -------
    type
        A class to be called as ``Name(params, lr=..., **hyperparameters)``.
    """
    if not hasattr(rule, "digest"):
        raise TypeError(f"optimizer: {rule!r} is no rule. Decorate it with fastopt.rule first.")
    name = name or "".join(part.capitalize() for part in rule.name.split("_"))
    module = sys._getframe(1).f_globals.get("__name__",
                                            rule.__module__)  # where pickle finds it, if it is kept there under its name
    inside = {k: InGroups(k) for k in rule.defaults if not hasattr(Optimizer, k)}
    facts = {"learning_rate": InGroups("lr"), **inside, "rule": Own(rule), "__doc__": doc or rule.__doc__,
             "__signature__": signature(rule), "__module__": module}
    return type(name, (Optimizer,), facts)


HYPERPARAMETERS = {
    "lr": "Learning rate.",
    "momentum": "mu: the share of the velocity that a step keeps, in [0, 1).",
    "dampening": "d: the gradient enters the velocity times 1 - d, in [0, 1].",
    "form": 'Where lr and the sign stand: "textbook" (velocity holds lr), "negative" (its sign twin), "outside" (p - '
            'lr*v).',
    "first_step": '"copy": the first step copies the gradient into the velocity, dampening or not (torch); "zero": it '
                  'does not.',
    "shifted": "True: the stored parameters are the look-ahead point (torch, Keras); gradients are then taken at them.",
    "alpha": "The share of the squared average that a step keeps, in [0, 1).",
    "b1": "Decay of the first moment, in [0, 1).",
    "b2": "Decay of the second moment (Lion: of the momentum), in [0, 1).",
    "eps": "Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so "
           "far.",
    "eps_root": "Added inside the root.",
    "eps_mode": '"outside": eps is added to sqrt(v/c2); "hat": to sqrt(v), as in the paper\'s shortcut.',
    "bias_correction": "False: the moments are used as they are.",
    "maximum_of": '"raw": the maximum is over v (torch); "corrected": over v/c2 (optax).',
    "momentum_decay": "psi in the momentum schedule b1*(1 - 0.5*0.96^(t*psi)).",
    "schedule": '"torch": the decaying momentum schedule; "optax": b1 at every step.',
    "threshold": "The average length above which the second moment is trusted (the paper: 4; torch and optax: 5).",
    "lr_decay": "The learning rate of step t is lr/(1 + (t-1)*lr_decay).",
    "initial_accumulator_value": "What the sum of squares starts from.",
    "weight_decay": "Strength of the pull towards zero; see `decay`.",
    "decay": '"coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside '
             'the step; '
             '"independent": by weight_decay.',
    "maximize": "True: climb instead of descend.",
}
SHARED_PARAMETERS = """    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16" (to nearest; also
        "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small changes add up) or "q8" (eight bits, 128
        numbers share an exponent). A function of a parameter's path and array returns one of these. By default float32, and float64 for
        float64 parameters, whatever the parameters are stored as.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a float32 in 16 more bits.
    average : float or callable, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0, 1): the state
        "average", which starts at the parameters, float32 unless `state` names it.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32 parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    threads : int, optional
        The most threads that a step uses; by default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see `tabulate`)."""


def _type_of(rule: Rule, name: str) -> str:
    if name in rule.options:
        return "{" + ", ".join(map(repr, rule.options[name])) + "}"
    return "float" if name in rule.initial.values() else "float or callable"


def document(rule: Rule) -> str:
    """A rule's docstring, followed by its parameters: hyperparameters are numbers or functions of the step t = 1, 2, ..."""
    doc = indent(cleandoc(rule.__doc__ or ""),
                 "    ").strip()  # Python 3.13 takes the indentation off, those before do not
    deep = " "*8
    own = "\n".join(f"    {name} : {_type_of(rule, name)}, default {default!r}\n"
                    + fill(HYPERPARAMETERS[name], 120, initial_indent=deep, subsequent_indent=deep)
                    for name, default in rule.defaults.items())
    return f"""{doc}

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses, nested in any
        way; or a list of groups, {{"params": ..., "lr": ..., ...}}, which may have a `state` and `rounding` of their own.
{own}
{SHARED_PARAMETERS}
    """


def _make(rule: Rule, name: str):
    return optimizer(rule, name, document(rule))


SGD = _make(rules.sgd, "SGD")
Momentum = _make(rules.momentum, "Momentum")
Nesterov = _make(rules.nesterov, "Nesterov")
RMSProp = _make(rules.rmsprop, "RMSProp")
AdaGrad = _make(rules.adagrad, "AdaGrad")
Adam = _make(rules.adam, "Adam")
AdamW = _make(rules.adamw, "AdamW")
AMSGrad = _make(rules.amsgrad, "AMSGrad")
NAdam = _make(rules.nadam, "NAdam")
RAdam = _make(rules.radam, "RAdam")
Lion = _make(rules.lion, "Lion")

ALL = {c.rule.name: c for c in (SGD, Momentum, Nesterov, RMSProp, AdaGrad, Adam, AdamW, AMSGrad, NAdam, RAdam, Lion)}


def chosen(kind: Any, where: str, name: str) -> type[Optimizer]:
    """The optimizer class that the argument `name` of `where` asks for: by its rule's name in any case, itself, or by a rule."""
    if isinstance(kind, str) and kind.lower() in ALL:
        return ALL[kind.lower()]
    if isinstance(kind, type) and issubclass(kind, Optimizer) and hasattr(kind, "rule"):
        return kind
    if callable(kind) and hasattr(kind, "digest"):
        return optimizer(kind)
    raise (ValueError if isinstance(kind, str) else TypeError)(
        f"{where}: {name} is {kind!r}, but one of {', '.join(ALL)}, an optimizer class or a rule is needed. Rules are "
        f"made by "
        "fastopt.rule.")


KINDS = {"state": "str | Mapping[str, str] | Callable[[str, Any], Any] | None", "average": "Hyper | None",
         "copy": "Any", "seed": "int",
         "rounding": 'Literal["nearest", "stochastic", "remainder"]'}


def stub() -> str:
    """The text of `optimizers.pyi`: what a type checker and an editor should know. A test keeps the file equal to it."""
    lines = ['"""Generated: python -c "from fastopt import optimizers; print(optimizers.stub(), end=\'\')" > '
             'fastopt/optimizers.pyi"""',
             "from collections.abc import Callable, Mapping", "from typing import Any, Literal", "",
             "from .optimizer import Optimizer",
             "from .registry import Rule", "", "Hyper = float | Callable[[int], float]"]
    for cls in ALL.values():
        rule: Rule = cls.rule
        lines += ["", f"class {cls.__name__}(Optimizer):", f'    """{cls.__doc__}"""', "    def __init__(",
                  "        self,"]
        for p in signature(rule).parameters.values():
            if p.name == "params":
                lines.append("        params: Any,")
                continue
            if p.name == "like":
                kind = 'Literal["torch", "optax", "keras", "sklearn"] | None'
            elif p.name in KINDS:
                kind = KINDS[p.name]
            elif p.name in ("threads", "capturable"):
                kind = "int | None"
            elif p.name in rule.options:
                kind = "bool" if set(rule.options[p.name]) == {False,
                                                               True} else f"Literal[{', '.join(map(repr, rule.options[p.name]))}]"
            else:
                kind = "float" if p.name in rule.initial.values() else "Hyper"
            lines.append(f"        {p.name}: {kind} = {p.default!r},")
            if p.name == "lr":
                lines.append("        *,")
        lines += ["    ) -> None: ..."]
    return "\n".join([*lines, "", "HYPERPARAMETERS: dict[str, str]", "KINDS: dict[str, str]",
                      "ALL: dict[str, type[Optimizer]]", "",
                      "def chosen(kind: Any, where: str, name: str) -> type[Optimizer]: ...",
                      "def document(rule: Rule) -> str: ...", "def stub() -> str: ...", ""])
