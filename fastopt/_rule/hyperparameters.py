"""Hyperparameters of rules: what each may be, and the line that documents it.

A rule says it in the signature of its `at`, by annotations: ``Annotated[float, "[0, 1)", "What it is."]`` (the interval
may be left out), ``Annotated[Literal["one", "two"], "What it is."]`` or ``Annotated[bool, "What it is."]``.
"""
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin

from .._checks.numbers import FINITE, NONNEGATIVE, Range, check_number, check_option, interval

DECAYS = ("coupled", "decoupled", "independent")
ELSEWHERE = {  # other systems' words for hyperparameters
    "betas": ("b1", "b2", "b3"), "beta1": ("b1",), "beta2": ("b2",), "beta_1": ("b1",), "beta_2": ("b2",),
    "rho": ("alpha",), "learning_rate": ("lr",), "epsilon": ("eps",), "decoupled_weight_decay": ("decay",)}
OTHER_RULES = {  # other systems' arguments that make a rule another: {argument: {rule: the other}}
    "amsgrad": dict.fromkeys(("adam", "adamw"), "fastopt.AMSGrad"),
    "nesterov": dict.fromkeys(("sgd", "momentum"),
                              "fastopt.Nesterov, with shifted=True for the form of torch and Keras"),
    "momentum": {"sgd": 'fastopt.Momentum, with like="torch" for the form of torch',
                 "rmsprop": "fastopt.RMSPropMomentum", "rmsprop_centered": "fastopt.RMSPropCenteredMomentum"},
    "centered": {"rmsprop": "fastopt.RMSPropCentered", "rmsprop_momentum": "fastopt.RMSPropCenteredMomentum"}}
OF_STEP = {  # what a step takes, in our words and in Keras's
    **{name: f"{name}=..." for name in ("clip_norm", "clip_value", "grad_factor", "skip_nonfinite", "zero_grads")},
    "clipnorm": 'clip_norm=..., clip="tensor"', "global_clipnorm": "clip_norm=...", "clipvalue": "clip_value=..."}


class About(NamedTuple):
    """What is known of hyperparameters, by name: the words that one may be, the range of a number, a line on each."""

    options: dict[str, tuple[Any, ...]]
    ranges: dict[str, Range]
    docs: dict[str, str]


MODIFIERS = {"cautious": False, "cautious_decay": False, "update_clip": 0.0, "update_rms": 0.0, "adaptive_clip": 0.0,
             "trust_ratio": False, "trust_coefficient": 1.0}
SHARED = {"weight_decay": 0.0, "decay": "coupled", "maximize": False, **MODIFIERS}  # of every rule, beside lr
EVERY = About(
    {"decay": DECAYS, **dict.fromkeys(("maximize", "cautious_decay"), (False, True)),
     "cautious": (False, True, "scaled"), "trust_ratio": (False, "update", "gradient")},
    {**dict.fromkeys(("lr", "weight_decay", "update_clip", "update_rms", "adaptive_clip", "trust_coefficient",
                      "grokfast_factor", "mars"), NONNEGATIVE),
     **dict.fromkeys(("average", "schedule_free", "grokfast_share"), interval("[0, 1)"))},
    {"lr": "Learning rate.",
     "weight_decay": "Strength of the decay, which pulls parameters towards zero; see `decay`.",
     "decay": '"coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by '
              'lr*weight_decay*p, beside the step. "independent": it shrinks by weight_decay*p, whatever lr is.',
     "maximize": "True: climb instead of descend.",
     "cautious": "True: an element stays in a step where its update and its gradient differ in sign, or one is 0 "
                 '(Liang et al. 2024). "scaled": so too; if k of the n elements of a tensor move, they take '
                 "n/(k+1) times their update.",
     "cautious_decay": "True: decoupled or independent decay acts only where the update does not lead away from "
                       "zero (Chen et al. 2025).",
     "update_clip": "No element's update is larger than lr times this. 0: no limit.",
     "update_rms": "The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern "
                   "2018). 0: no limit.",
     "adaptive_clip": "The gradient of each row of a parameter is made no longer than this times the row (Brock "
                      "et al. 2021). A row counts as 1e-3 long at least; a parameter with one axis is one row. 0:"
                      " no limit.",
     "trust_ratio": '"update": the update of a tensor, with its decoupled decay, is made lr times as long as the '
                    'tensor (You et al. 2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied '
                    "by |p|/(|g| + weight_decay*|p|), where |p| is the length of a tensor (You et al. 2017: "
                    "LARS). Where a length is 0, the factor is 1.",
     "trust_coefficient": "A factor of the trust ratio. Where a length is 0, it is not used."})


def said_here(word: str, rule: Any) -> str | None:
    """What to say in the place of a word that is no hyperparameter of the rule, if that is known."""
    if word in OF_STEP:
        return f"opt.step(grads, {OF_STEP[word]})"
    if word in OTHER_RULES:
        return OTHER_RULES[word].get(rule.name)
    found = [name for name in ELSEWHERE.get(word, ()) if name in rule.defaults]
    return ", ".join('decay="decoupled"' if name == "decay" else f"{name}=..." for name in found) or None


def annotated(at: Callable[..., Any]) -> About:
    """What the annotations of a function's arguments say."""
    found = About({}, {}, {})
    for name, note in inspect.get_annotations(at, eval_str=True).items():
        kind, *said = get_args(note) if hasattr(note, "__metadata__") else (note,)
        if get_origin(kind) is Literal or kind is bool:
            found.options[name] = get_args(kind) or (False, True)
        elif len(said) == 2:
            found.ranges[name] = interval(said[0])
        if said:
            found.docs[name] = said[-1]
    return found


def check_value(name: str, value: Any, options: Mapping[str, tuple[Any, ...]], where: str,
                ranges: Mapping[str, Range], otherwise: str = " or a function of the step") -> Any:
    """The number or word that `name` may be, `options` and `ranges` being those of its rule."""
    if name in options:
        return check_option(name, value, options[name], where)
    return check_number(name, value, where, otherwise, ranges.get(name, FINITE))
