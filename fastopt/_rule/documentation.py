"""What the optimizer class of a rule tells users: its signature, its documentation, its lines in `optimizers.pyi`."""
import inspect
from collections.abc import Iterable
from functools import cache
from inspect import cleandoc
from textwrap import fill, indent
from typing import TYPE_CHECKING, Any, NamedTuple

from ..presets import PRESETS

if TYPE_CHECKING:
    from .rule import Rule

WORDS = ", ".join(f'"{system}"' for system in PRESETS)
ROUNDINGS = '"nearest", "stochastic", "remainder"'


class Argument(NamedTuple):
    """An argument of an optimizer: its default, its type in documentation and for type checkers, and what it is."""

    default: Any
    type: str
    checked: str
    doc: str


PARAMS = Argument(
    inspect.Parameter.empty, "array, tree of arrays, or groups", "Any",
    "The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and "
    'dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a '
    "`state`, a `rounding` and a `mask` of its own.")
ARGUMENTS = {
    "like": Argument(
        None, f"{{{WORDS}}}, optional", f"Literal[{WORDS}] | None",
        "Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override "
        "them."),
    "state": Argument(
        None, "str, dict or callable, optional", "str | Mapping[str, Any] | Callable[[str, Any], Any] | None",
        'How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default '
        "it is float32, and float64 for float64 parameters, whatever else the parameters are stored as. "
        '"float32", "float64", "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. '
        '"f16s" and "bf16s" round up or down by chance, so that small changes add up. "q8" takes eight bits, and '
        "128 numbers share an exponent. A function of a parameter's path and array returns one of these words. A "
        'dict may also hold state arrays that are there already, in the structure of the parameters: {"m": '
        'arrays}, or {"m": ("q8", arrays)} where the dtype does not tell the format. Steps update them in place, '
        "from the numbers that they hold."),
    "rounding": Argument(
        "nearest", f"{{{ROUNDINGS}}}", f"Literal[{ROUNDINGS}]",
        'How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by '
        'chance, right on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider '
        "parameters need none of it; if all are, an optimizer warns."),
    "average": Argument(
        None, "float, callable or True, optional", "Hyper | bool | None",
        "d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- "
        'd*average + (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` '
        "names it."),
    "grokfast": Argument(
        None, "tuple of two floats, or True, optional", "tuple[Hyper, Hyper] | bool | None",
        "(share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself "
        "in a step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "
        '"grokfast".'),
    "mars": Argument(
        None, "float, callable or True, optional", "Hyper | bool | None",
        "gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last "
        "step is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The "
        'state "mars" is the last gradient. For optimizers that have b1.'),
    "schedule_free": Argument(
        None, "float, callable or True, optional", "Hyper | bool | None",
        "b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and"
        " x is the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients "
        "there. Evaluate and keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state"
        ' "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. This'
        " takes the place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state."),
    "copy": Argument(
        None, "tree of arrays, optional", "Any",
        "Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside "
        "float32 parameters, for example."),
    "seed": Argument(
        0, "int", "int",
        "The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element."),
    "first": Argument(
        0, "int or tree of int", "Any",
        "For arrays that are parts of larger ones: how many elements of the whole lie before each. The random "
        "bits are then those of the whole. If the whole has another number among its tensors, give a pair: that "
        "number, and these elements. With states of eight bits, give a multiple of 128."),
    "threads": Argument(
        None, "int, optional", "int | None",
        "The most threads that a step uses. By default all that the process may use, and no more than "
        "OMP_NUM_THREADS."),
    "capturable": Argument(
        None, "int, optional", "int | None",
        "On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`."),
}


def arguments(rule: "Rule") -> dict[str, Argument]:
    """The arguments of the optimizer of a rule: parameters, lr, other hyperparameters, and what all optimizers have."""
    def described(name: str) -> Argument:
        default, doc = rule.defaults[name], rule.docs.get(name, "")
        if name in rule.options:
            words = ", ".join(map(repr, rule.options[name]))
            return Argument(default, f"{{{words}}}", "bool" if type(default) is bool else f"Literal[{words}]", doc)
        if name in rule.initial.values():
            return Argument(default, "float", "float", doc)
        return Argument(default, "float or callable", "Hyper", doc)

    names = ["lr", *(name for name in rule.defaults if name != "lr")]
    return {"params": PARAMS, **{name: described(name) for name in names}, **ARGUMENTS}


def signature(rule: "Rule") -> inspect.Signature:
    """The signature of the optimizer of a rule."""
    P = inspect.Parameter
    return inspect.Signature([
        P(name, P.POSITIONAL_OR_KEYWORD if name in ("params", "lr") else P.KEYWORD_ONLY, default=a.default)
        for name, a in arguments(rule).items()])


@cache  # most are of several rules: filling all of them anew is a tenth of the time of `import fastopt`
def _filled(doc: str) -> str:
    return fill(doc, 120, initial_indent=" "*8, subsequent_indent=" "*8)


def document(rule: "Rule") -> str:
    """A rule's docstring, followed by the parameters of its optimizer: hyperparameters may be functions of the step."""
    head = indent(cleandoc(rule.__doc__ or ""), "    ").strip()  # before 3.13, Python does not take the indentation off
    lines = [head, "", "    Parameters", "    ----------"]
    for name, (default, kind, _, doc) in arguments(rule).items():
        lines.append(f"    {name} : {kind}{f', default {default!r}' if name in rule.defaults else ''}")
        if doc:
            lines.append(_filled(doc))
    return "\n".join([*lines, "    "])


def of_class(rule: "Rule") -> str | None:
    """The docstring of the optimizer of a rule, with its parameters if the rule has a line about each one."""
    return document(rule) if rule.docs.keys() >= rule.defaults.keys() else rule.__doc__


def stub(classes: Iterable[Any]) -> str:
    """The text of `optimizers.pyi`, for type checkers and editors. A test keeps the file equal to it."""
    classes = list(classes)
    command = "python -c \"from fastopt import optimizers; print(optimizers.stub(), end='')\" > fastopt/optimizers.pyi"
    lines = [f'"""Generated: {command}"""', "from collections.abc import Callable, Mapping",
             "from typing import Any, Literal", "", "from ._rule.rule import Rule", "from .optimizer import Optimizer",
             "", "Hyper = float | Callable[[int], float]", "", "__all__ = [",
             *(f'    "{cls.__name__}",' for cls in classes), '    "optimizer",', "]"]
    for cls in classes:
        lines += ["", f"class {cls.__name__}(Optimizer):", f'    """{cls.__doc__}"""',
                  "    def __init__(", "        self,"]
        for name, a in arguments(cls.rule).items():
            lines.append(f"        {name}: {a.checked}{'' if name == 'params' else f' = {a.default!r}'},")
            lines += ["        *,"] if name == "lr" else []
        lines += ["    ) -> None: ..."]
    return "\n".join([
        *lines, "", "ALL: dict[str, type[Optimizer]]", "NAMED: dict[str, type[Optimizer]]", "",
        "def optimizer(rule: Rule, name: str | None = None, doc: str | None = None) -> type[Optimizer]: ...",
        "def chosen(kind: Any, where: str, name: str) -> type[Optimizer]: ...", "def stub() -> str: ...", ""])
