"""Generated: python -c "from fastopt import optimizers; print(optimizers.stub(), end='')" > fastopt/optimizers.pyi"""
from collections.abc import Callable, Mapping
from typing import Any, Literal

from ._rule.rule import Rule
from .optimizer import Optimizer

Hyper = float | Callable[[int], float]

__all__ = [
    "SGD",
    "Momentum",
    "Nesterov",
    "Signum",
    "Rprop",
    "RMSProp",
    "RMSPropMomentum",
    "RMSPropCentered",
    "RMSPropCenteredMomentum",
    "AdaGrad",
    "AdaDelta",
    "Adam",
    "AdamW",
    "AdaMax",
    "AdaBelief",
    "Yogi",
    "LaProp",
    "ADOPT",
    "AMSGrad",
    "NAdam",
    "RAdam",
    "AdEMAMix",
    "Lion",
    "Adan",
    "LAMB",
    "LARS",
    "optimizer",
]

class SGD(Optimizer):
    """Gradient descent: the step is the gradient times the learning rate.

        p <- p - lr*g

    Source: Robbins and Monro, "A Stochastic Approximation Method", https://doi.org/10.1214/aoms/1177729586.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.001
        Learning rate.
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.001,
        *,
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class Momentum(Optimizer):
    """Momentum (Polyak 1964): a velocity that holds the learning rate.

        v <- mu*v + lr*g
        p <- p - v

    Here mu is the argument `momentum`, and d is `dampening`. `form` says where lr and the sign stand:

        form="negative":  v <- mu*v - lr*g;  p <- p + v
        form="outside":  v <- mu*v + (1-d)*g;  p <- p - lr*v

    All forms walk the same points while lr is constant. Under a schedule, "outside" multiplies old gradients by the lr
    of today.

    Source: Polyak, "Some Methods of Speeding Up the Convergence of Iteration Methods",
    https://doi.org/10.1016/0041-5553(64)90137-5.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.001
        Learning rate.
    momentum : float or callable, default 0.9
        mu: the share of the velocity that a step keeps, in [0, 1).
    dampening : float or callable, default 0.0
        d: the gradient enters the velocity times 1 - d, in [0, 1].
    form : {'textbook', 'negative', 'outside'}, default 'textbook'
        "textbook": the velocity holds lr. "negative": it holds -lr. "outside": lr multiplies the velocity on its way
        out.
    first_step : {'zero', 'copy'}, default 'zero'
        "zero": the velocity starts at 0. "copy": the first velocity is the gradient itself, whatever dampening is
        (torch).
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.001,
        *,
        momentum: Hyper = 0.9,
        dampening: Hyper = 0.0,
        form: Literal['textbook', 'negative', 'outside'] = 'textbook',
        first_step: Literal['zero', 'copy'] = 'zero',
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class Nesterov(Optimizer):
    """Nesterov's accelerated gradient (1983): momentum whose gradient is taken at the look-ahead point.

        v <- mu*v + lr*g
        p <- p - v

    The gradient g is taken at the look-ahead point p - mu*v, with the v and p before the step. With shifted=True
    (torch, Keras, scikit-learn) the stored p is the look-ahead point, and g is taken there:

        v <- mu*v + lr*g;  p <- p - (mu*v + lr*g)

    Both walk the same look-ahead points while lr and mu are constant. They differ when mu changes between steps, when
    lr changes under form="outside", and with any weight decay: it pulls at the stored parameters.

    Source: Nesterov, "A Method for Solving the Convex Programming Problem with Convergence Rate O(1/k^2)", Doklady
    Akademii Nauk SSSR 269, 543-547.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.001
        Learning rate.
    momentum : float or callable, default 0.9
        mu: the share of the velocity that a step keeps, in [0, 1).
    dampening : float or callable, default 0.0
        d: the gradient enters the velocity times 1 - d, in [0, 1].
    form : {'textbook', 'negative', 'outside'}, default 'textbook'
        "textbook": the velocity holds lr. "negative": it holds -lr. "outside": lr multiplies the velocity on its way
        out.
    first_step : {'zero', 'copy'}, default 'zero'
        "zero": the velocity starts at 0. "copy": the first velocity is the gradient itself, whatever dampening is
        (torch).
    shifted : {False, True}, default False
        True: the stored parameters are the look-ahead point (torch, Keras); gradients are then taken at them.
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.001,
        *,
        momentum: Hyper = 0.9,
        dampening: Hyper = 0.0,
        form: Literal['textbook', 'negative', 'outside'] = 'textbook',
        first_step: Literal['zero', 'copy'] = 'zero',
        shifted: bool = False,
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class Signum(Optimizer):
    """Signum (Bernstein et al. 2018): the sign of the momentum. With b1=0 it is signSGD.

        m <- b1*m + (1-b1)*g
        p <- p - lr*sign(m)

    Source: "signSGD: Compressed Optimisation for Non-Convex Problems", https://arxiv.org/abs/1802.04434.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.0001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.0001,
        *,
        b1: Hyper = 0.9,
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class Rprop(Optimizer):
    """Rprop (Riedmiller and Braun 1993): every element has a step size of its own.

        s = sign(g*old)
        k = where(s > 0, eta_plus, where(s < 0, eta_minus, 1))
        size <- min(max(k*(size if t > 1 else lr), size_min), size_max)
        old <- where(s < 0, 0, g)
        p <- p - size*sign(old)

    The size grows while the gradient keeps its sign. Where the sign changes, the size shrinks and the element waits one
    step. It is the form without backtracking, as in torch, and for gradients of all data at once.

    Source: "A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP Algorithm",
    https://doi.org/10.1109/ICNN.1993.298623.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.01
        The size of each first step. Later it has no effect.
    eta_minus : float or callable, default 0.5
        What a change of sign multiplies the size by, in (0, 1).
    eta_plus : float or callable, default 1.2
        What a sign that stays multiplies it by, above 1.
    size_min : float or callable, default 1e-06
        The smallest size.
    size_max : float or callable, default 50.0
        The largest size.
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.01,
        *,
        eta_minus: Hyper = 0.5,
        eta_plus: Hyper = 1.2,
        size_min: Hyper = 1e-06,
        size_max: Hyper = 50.0,
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class RMSProp(Optimizer):
    """RMSProp (Tieleman and Hinton 2012): the gradient over a running root mean square of it.

        v <- alpha*v + (1-alpha)*g^2
        p <- p - lr*g/(sqrt(v + eps_root) + eps)

    Source: lecture 6.5 of the course "Neural Networks for Machine Learning", Coursera.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.01
        Learning rate.
    alpha : float or callable, default 0.99
        The share of the squared average that a step keeps, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0, a parameter whose gradient was 0 so far becomes NaN (0/0).
    eps_root : float or callable, default 0.0
        Added inside the root.
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.01,
        *,
        alpha: Hyper = 0.99,
        eps: Hyper = 1e-08,
        eps_root: Hyper = 0.0,
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class RMSPropMomentum(Optimizer):
    """RMSProp with momentum (torch, optax, Keras): its update goes through a velocity.

        v <- alpha*v + (1-alpha)*g^2
        b <- mu*b + lr*g/(sqrt(v + eps_root) + eps)
        p <- p - b

    Here mu is the argument `momentum`. `form` is as in Momentum:

        form="outside" (torch):  b <- mu*b + g/(...);  p <- p - lr*b
        form="negative":  b <- mu*b - lr*g/(...);  p <- p + b

    Source: Graves, "Generating Sequences With Recurrent Neural Networks", equations 38 to 41,
    https://arxiv.org/abs/1308.0850.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.01
        Learning rate.
    alpha : float or callable, default 0.99
        The share of the squared average that a step keeps, in [0, 1).
    momentum : float or callable, default 0.9
        mu: the share of the velocity that a step keeps, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0, a parameter whose gradient was 0 so far becomes NaN (0/0).
    eps_root : float or callable, default 0.0
        Added inside the root.
    form : {'textbook', 'negative', 'outside'}, default 'textbook'
        "textbook": the velocity holds lr. "negative": it holds -lr. "outside": lr multiplies the velocity on its way
        out.
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.01,
        *,
        alpha: Hyper = 0.99,
        momentum: Hyper = 0.9,
        eps: Hyper = 1e-08,
        eps_root: Hyper = 0.0,
        form: Literal['textbook', 'negative', 'outside'] = 'textbook',
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class RMSPropCentered(Optimizer):
    """Centered RMSProp (Graves 2013): the gradient over a running standard deviation of it.

        v <- alpha*v + (1-alpha)*g^2
        mean <- alpha*mean + (1-alpha)*g
        p <- p - lr*g/(sqrt(max(v - mean^2, 0) + eps_root) + eps)

    The difference v - mean^2 is small where gradients hardly change: keep both states in float32, or take a larger
    eps_root.

    Source: Graves, "Generating Sequences With Recurrent Neural Networks", equations 38 to 41,
    https://arxiv.org/abs/1308.0850.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.01
        Learning rate.
    alpha : float or callable, default 0.99
        The share of the squared average that a step keeps, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0, a parameter whose gradient was 0 so far becomes NaN (0/0).
    eps_root : float or callable, default 0.0
        Added inside the root.
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.01,
        *,
        alpha: Hyper = 0.99,
        eps: Hyper = 1e-08,
        eps_root: Hyper = 0.0,
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class RMSPropCenteredMomentum(Optimizer):
    """Centered RMSProp with momentum (Graves 2013; torch, optax, Keras).

        v <- alpha*v + (1-alpha)*g^2
        mean <- alpha*mean + (1-alpha)*g
        b <- mu*b + lr*g/(sqrt(max(v - mean^2, 0) + eps_root) + eps)
        p <- p - b

    Here mu is the argument `momentum`. `form` is as in RMSPropMomentum.

    Source: Graves, "Generating Sequences With Recurrent Neural Networks", equations 38 to 41,
    https://arxiv.org/abs/1308.0850.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.01
        Learning rate.
    alpha : float or callable, default 0.99
        The share of the squared average that a step keeps, in [0, 1).
    momentum : float or callable, default 0.9
        mu: the share of the velocity that a step keeps, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0, a parameter whose gradient was 0 so far becomes NaN (0/0).
    eps_root : float or callable, default 0.0
        Added inside the root.
    form : {'textbook', 'negative', 'outside'}, default 'textbook'
        "textbook": the velocity holds lr. "negative": it holds -lr. "outside": lr multiplies the velocity on its way
        out.
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.01,
        *,
        alpha: Hyper = 0.99,
        momentum: Hyper = 0.9,
        eps: Hyper = 1e-08,
        eps_root: Hyper = 0.0,
        form: Literal['textbook', 'negative', 'outside'] = 'textbook',
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class AdaGrad(Optimizer):
    """AdaGrad (Duchi, Hazan and Singer 2011): the gradient over the root of the sum of its squares.

        v <- v + g^2
        p <- p - lr/(1 + (t-1)*lr_decay)*g/(sqrt(v + eps_root) + eps)

    v starts at initial_accumulator_value.

    Source: "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization",
    https://jmlr.org/papers/v12/duchi11a.html.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.01
        Learning rate.
    lr_decay : float or callable, default 0.0
        The learning rate of step t is lr/(1 + (t-1)*lr_decay).
    eps : float or callable, default 1e-10
        Added to the root of the second moment. With 0, a parameter whose gradient was 0 so far becomes NaN (0/0).
    eps_root : float or callable, default 0.0
        Added inside the root.
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    initial_accumulator_value : float, default 0.0
        What the sum of squares starts from.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.01,
        *,
        lr_decay: Hyper = 0.0,
        eps: Hyper = 1e-10,
        eps_root: Hyper = 0.0,
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        initial_accumulator_value: float = 0.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class AdaDelta(Optimizer):
    """AdaDelta (Zeiler 2012): the gradient times the ratio of two running root mean squares.

        v <- alpha*v + (1-alpha)*g^2
        s = sqrt(d + eps)/sqrt(v + eps)*g
        d <- alpha*d + (1-alpha)*s^2
        p <- p - lr*s

    v is the running mean square of gradients, and d that of updates.

    Source: "ADADELTA: An Adaptive Learning Rate Method", https://arxiv.org/abs/1212.5701.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 1.0
        Learning rate.
    alpha : float or callable, default 0.9
        The share of the squared average that a step keeps, in [0, 1).
    eps : float or callable, default 1e-06
        Added inside both roots. With 0 no step is ever taken.
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 1.0,
        *,
        alpha: Hyper = 0.9,
        eps: Hyper = 1e-06,
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class Adam(Optimizer):
    """Adam (Kingma and Ba 2015): momentum over a running root mean square, both corrected for their zero start.

        c1 = 1 - b1^t;  c2 = 1 - b2^t
        m <- b1*m + (1-b1)*g
        v <- b2*v + (1-b2)*g^2
        p <- p - lr*(m/c1)/(sqrt(v/c2 + eps_root) + eps)

    eps_mode="hat" (Keras, scikit-learn, the paper's own shortcut) adds eps to sqrt(v): the step is then lr*sqrt(c2)/c1
    * m/(sqrt(v) + eps).

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", https://arxiv.org/abs/1412.6980.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0, a parameter whose gradient was 0 so far becomes NaN (0/0).
    eps_root : float or callable, default 0.0
        Added inside the root.
    eps_mode : {'outside', 'hat'}, default 'outside'
        "outside": eps is added to sqrt(v/c2); "hat": to sqrt(v), as in the paper's shortcut.
    bias_correction : {False, True}, default True
        False: the moments are used as they are.
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.001,
        *,
        b1: Hyper = 0.9,
        b2: Hyper = 0.999,
        eps: Hyper = 1e-08,
        eps_root: Hyper = 0.0,
        eps_mode: Literal['outside', 'hat'] = 'outside',
        bias_correction: bool = True,
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class AdamW(Optimizer):
    """AdamW (Loshchilov and Hutter 2019): Adam with decoupled weight decay.

        p <- p - lr*weight_decay*p
        c1 = 1 - b1^t;  c2 = 1 - b2^t
        m <- b1*m + (1-b1)*g
        v <- b2*v + (1-b2)*g^2
        p <- p - lr*(m/c1)/(sqrt(v/c2 + eps_root) + eps)

    The formula is Adam's. Only the defaults differ: weight_decay=0.01, decay="decoupled".

    Source: "Decoupled Weight Decay Regularization", https://arxiv.org/abs/1711.05101.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0, a parameter whose gradient was 0 so far becomes NaN (0/0).
    eps_root : float or callable, default 0.0
        Added inside the root.
    eps_mode : {'outside', 'hat'}, default 'outside'
        "outside": eps is added to sqrt(v/c2); "hat": to sqrt(v), as in the paper's shortcut.
    bias_correction : {False, True}, default True
        False: the moments are used as they are.
    weight_decay : float or callable, default 0.01
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'decoupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.001,
        *,
        b1: Hyper = 0.9,
        b2: Hyper = 0.999,
        eps: Hyper = 1e-08,
        eps_root: Hyper = 0.0,
        eps_mode: Literal['outside', 'hat'] = 'outside',
        bias_correction: bool = True,
        weight_decay: Hyper = 0.01,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'decoupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class AdaMax(Optimizer):
    """AdaMax (Kingma and Ba 2015, section 7.1): Adam with a decaying maximum in place of the second moment.

        c1 = 1 - b1^t
        m <- b1*m + (1-b1)*g
        top <- max(b2*top, abs(g) + eps)
        p <- p - lr*(m/c1)/top

    With eps_mode="outside" (Keras) eps is added to top in the last line instead. The paper has no eps.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", https://arxiv.org/abs/1412.6980.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.002
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0, a parameter whose gradient was 0 so far becomes NaN (0/0).
    eps_mode : {'inside', 'outside'}, default 'inside'
        "inside": eps is added to |g| (torch, optax); "outside": to top (Keras).
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.002,
        *,
        b1: Hyper = 0.9,
        b2: Hyper = 0.999,
        eps: Hyper = 1e-08,
        eps_mode: Literal['inside', 'outside'] = 'inside',
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class AdaBelief(Optimizer):
    """AdaBelief (Zhuang et al. 2020): Adam whose second moment is of the gradient's distance from the first.

        c1 = 1 - b1^t;  c2 = 1 - b2^t
        m <- b1*m + (1-b1)*g
        v <- b2*v + (1-b2)*(g-m)^2 + eps_root
        p <- p - lr*(m/c1)/(sqrt(v/c2) + eps)

    Source: "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients",
    https://arxiv.org/abs/2010.07468.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-16
        Added to the root of the second moment. With 0, a parameter whose gradient was 0 so far becomes NaN (0/0).
    eps_root : float or callable, default 1e-16
        Added to v in every step.
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.001,
        *,
        b1: Hyper = 0.9,
        b2: Hyper = 0.999,
        eps: Hyper = 1e-16,
        eps_root: Hyper = 1e-16,
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class Yogi(Optimizer):
    """Yogi (Zaheer et al. 2018): Adam whose second moment moves by steps of its own size, so that it cannot fall fast.

        c1 = 1 - b1^t;  c2 = 1 - b2^t
        m <- b1*m + (1-b1)*g
        v <- v - (1-b2)*sign(v - g^2)*g^2
        p <- p - lr*(m/c1)/(sqrt(v/c2) + eps)

    v starts at initial_accumulator_value. The corrections c1 and c2 are those of optax and of the authors' code; the
    paper has none.

    Source: "Adaptive Methods for Nonconvex Optimization", Advances in Neural Information Processing Systems 31.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 0.001
        Added to the root of the second moment. With 0, a parameter whose gradient was 0 so far becomes NaN (0/0).
    bias_correction : {False, True}, default True
        False, as in the paper: the moments are used as they are.
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    initial_moment : float, default 0.0
        What the first moment starts from; optax: 1e-6.
    initial_accumulator_value : float, default 1e-06
        What the second moment starts from.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.001,
        *,
        b1: Hyper = 0.9,
        b2: Hyper = 0.999,
        eps: Hyper = 0.001,
        bias_correction: bool = True,
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        initial_moment: float = 0.0,
        initial_accumulator_value: float = 1e-06,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class LaProp(Optimizer):
    """LaProp (Ziyin, Wang and Ueda 2020): momentum of normalized gradients, where Adam normalizes the momentum.

        c1 = 1 - b1^t;  c2 = 1 - b2^t
        v <- b2*v + (1-b2)*g^2
        m <- b1*m + (1-b1)*g/(sqrt(v/c2) + eps)
        p <- p - lr*m/c1

    Source: "LaProp: Separating Momentum and Adaptivity in Adam", https://arxiv.org/abs/2002.04839.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.0004
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-15
        Added to the root of the second moment. With 0, a parameter whose gradient was 0 so far becomes NaN (0/0).
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.0004,
        *,
        b1: Hyper = 0.9,
        b2: Hyper = 0.999,
        eps: Hyper = 1e-15,
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class ADOPT(Optimizer):
    """ADOPT (Taniguchi et al. 2024): Adam that converges with any b2.

        n = g/max(sqrt(v), eps) if t > 1 else 0*g
        k = (t-1)^0.25
        m <- b1*m + (1-b1)*min(max(n, -k), k)
        v <- b2*v + (1-b2)*g^2 if t > 1 else g^2
        p <- p - lr*m

    v is one step behind, and the momentum is of normalized gradients. In the first step v becomes g^2, and p stays.
    With clipping=False there is no limit k.

    Source: "ADOPT: Modified Adam Can Converge with Any beta2 with the Optimal Rate", https://arxiv.org/abs/2411.02853.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.9999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-06
        The denominator is at least this.
    clipping : {False, True}, default True
        False: normalized gradients are not clipped (the paper's first form).
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.001,
        *,
        b1: Hyper = 0.9,
        b2: Hyper = 0.9999,
        eps: Hyper = 1e-06,
        clipping: bool = True,
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class AMSGrad(Optimizer):
    """AMSGrad (Reddi, Kale and Kumar 2018): Adam whose denominator never falls.

        c1 = 1 - b1^t;  c2 = 1 - b2^t
        m <- b1*m + (1-b1)*g
        v <- b2*v + (1-b2)*g^2
        top <- max(top, v)
        p <- p - lr*(m/c1)/(sqrt(top/c2 + eps_root) + eps)

    maximum_of="corrected" (optax) takes the maximum over v/c2 instead, which is another sequence.

    Source: "On the Convergence of Adam and Beyond", https://arxiv.org/abs/1904.09237.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0, a parameter whose gradient was 0 so far becomes NaN (0/0).
    eps_root : float or callable, default 0.0
        Added inside the root.
    eps_mode : {'outside', 'hat'}, default 'outside'
        "outside": eps is added to sqrt(v/c2); "hat": to sqrt(v), as in the paper's shortcut.
    maximum_of : {'raw', 'corrected'}, default 'raw'
        "raw": the maximum is over v (torch); "corrected": over v/c2 (optax).
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.001,
        *,
        b1: Hyper = 0.9,
        b2: Hyper = 0.999,
        eps: Hyper = 1e-08,
        eps_root: Hyper = 0.0,
        eps_mode: Literal['outside', 'hat'] = 'outside',
        maximum_of: Literal['raw', 'corrected'] = 'raw',
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class NAdam(Optimizer):
    """NAdam (Dozat 2016): Adam with Nesterov's look-ahead, by way of a decaying momentum schedule.

        c2 = 1 - b2^t
        mu1 = b1*(1 - 0.5*0.96^(t*momentum_decay))
        mu2 = b1*(1 - 0.5*0.96^((t+1)*momentum_decay))
        P <- P*mu1
        m <- b1*m + (1-b1)*g
        v <- b2*v + (1-b2)*g^2
        p <- p - lr*(mu2*m/(1-P*mu2) + (1-mu1)*g/(1-P))/(sqrt(v/c2) + eps)

    P is 1 at first: it is the product of all mu1 so far, whatever b1 was in each step. schedule="optax" has b1 in place
    of mu1 and mu2.

    Source: "Incorporating Nesterov Momentum into Adam", ICLR 2016 workshop,
    https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.002
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0, a parameter whose gradient was 0 so far becomes NaN (0/0).
    momentum_decay : float or callable, default 0.004
        psi in the momentum schedule b1*(1 - 0.5*0.96^(t*psi)).
    schedule : {'torch', 'optax'}, default 'torch'
        "torch": the decaying momentum schedule; "optax": b1 at every step.
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.002,
        *,
        b1: Hyper = 0.9,
        b2: Hyper = 0.999,
        eps: Hyper = 1e-08,
        momentum_decay: Hyper = 0.004,
        schedule: Literal['torch', 'optax'] = 'torch',
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class RAdam(Optimizer):
    """RAdam (Liu et al. 2020): Adam that waits until its second moment can be trusted.

        c1 = 1 - b1^t;  c2 = 1 - b2^t
        n = 2/(1-b2) - 1;  rho = n - 2*t*b2^t/c2
        r = sqrt((rho-4)*(rho-2)*n/((n-4)*(n-2)*rho)) if rho > 5 else 0
        m <- b1*m + (1-b1)*g
        v <- b2*v + (1-b2)*g^2
        p <- p - lr*(m/c1)*(r*sqrt(c2)/(sqrt(v) + eps) if rho > 5 else 1)

    rho is the length of the average that v is. `threshold` is the 5.

    Source: "On the Variance of the Adaptive Learning Rate and Beyond", https://arxiv.org/abs/1908.03265.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0, a parameter whose gradient was 0 so far becomes NaN (0/0).
    eps_mode : {'outside', 'hat'}, default 'hat'
        "outside": eps is added to sqrt(v/c2); "hat": to sqrt(v), as in the paper's shortcut.
    threshold : float or callable, default 5.0
        The average length above which the second moment is trusted (the paper: 4; torch and optax: 5).
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.001,
        *,
        b1: Hyper = 0.9,
        b2: Hyper = 0.999,
        eps: Hyper = 1e-08,
        eps_mode: Literal['outside', 'hat'] = 'hat',
        threshold: Hyper = 5.0,
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class AdEMAMix(Optimizer):
    """AdEMAMix (Pagliardini, Ablin and Grangier 2024): Adam with a second, slower momentum.

        c1 = 1 - b1^t;  c2 = 1 - b2^t
        m <- b1*m + (1-b1)*g
        slow <- b3*slow + (1-b3)*g
        v <- b2*v + (1-b2)*g^2
        p <- p - lr*(m/c1 + alpha*slow)/(sqrt(v/c2 + eps_root) + eps)

    With `warmup`, T in the paper, alpha and b3 grow in the first T steps. In step t < T they are

        alpha*t/T
        min(exp(1/((1-t/T)/log(b1) + (t/T)/log(b3))), b3)

    Source: "The AdEMAMix Optimizer: Better, Faster, Older", https://arxiv.org/abs/2409.03137.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    b3 : float or callable, default 0.9999
        Decay of the slow moment, in [0, 1).
    alpha : float or callable, default 5.0
        Weight of the slow moment in the update.
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0, a parameter whose gradient was 0 so far becomes NaN (0/0).
    eps_root : float or callable, default 0.0
        Added inside the root.
    warmup : float or callable, default 0.0
        T: steps in which alpha and b3 grow; 0: they do not.
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'decoupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.001,
        *,
        b1: Hyper = 0.9,
        b2: Hyper = 0.999,
        b3: Hyper = 0.9999,
        alpha: Hyper = 5.0,
        eps: Hyper = 1e-08,
        eps_root: Hyper = 0.0,
        warmup: Hyper = 0.0,
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'decoupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class Lion(Optimizer):
    """Lion (Chen et al. 2023): the sign of an interpolated momentum.

        p <- p - lr*sign(b1*m + (1-b1)*g)
        m <- b2*m + (1-b2)*g

    Take an lr that is 3 to 10 times smaller than AdamW's.

    Source: "Symbolic Discovery of Optimization Algorithms", https://arxiv.org/abs/2302.06675.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.0001
        Learning rate.
    b1 : float or callable, default 0.9
        Weight of the momentum in the update, in [0, 1).
    b2 : float or callable, default 0.99
        Decay of the momentum, in [0, 1).
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'decoupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.0001,
        *,
        b1: Hyper = 0.9,
        b2: Hyper = 0.99,
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'decoupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class Adan(Optimizer):
    """Adan (Xie et al. 2022): Adam with Nesterov's look-ahead, by the difference of two gradients in a row.

        c1 = 1 - b1^t;  c2 = 1 - b2^t;  c3 = 1 - b3^t
        k = g - old if t > 1 else 0*g
        m <- b1*m + (1-b1)*g
        d <- b2*d + (1-b2)*k
        v <- b3*v + (1-b3)*(g + b2*k)^2
        old <- g
        p <- p - lr*(m/c1 + b2*d/c2)/(sqrt(v/c3) + eps)

    The paper's betas are 1 - b1, 1 - b2 and 1 - b3. These b, their defaults and the corrections c1, c2 and c3 are those
    of the authors' code. The paper's decay is proximal, (p - lr*u)/(1 + lr*weight_decay). Here it is decoupled, as in
    that code with no_prox=True.

    Source: "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models",
    https://arxiv.org/abs/2208.06677.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.98
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.92
        Decay of the average difference of gradients, in [0, 1).
    b3 : float or callable, default 0.99
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0, a parameter whose gradient was 0 so far becomes NaN (0/0).
    weight_decay : float or callable, default 0.0
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'decoupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.001,
        *,
        b1: Hyper = 0.98,
        b2: Hyper = 0.92,
        b3: Hyper = 0.99,
        eps: Hyper = 1e-08,
        weight_decay: Hyper = 0.0,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'decoupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: bool = False,
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class LAMB(Optimizer):
    """LAMB (You et al. 2020): Adam whose update of each tensor, decay included, is as long as the tensor.

        c1 = 1 - b1^t;  c2 = 1 - b2^t
        m <- b1*m + (1-b1)*g
        v <- b2*v + (1-b2)*g^2
        r = (m/c1)/(sqrt(v/c2 + eps_root) + eps) + weight_decay*p
        p <- p - lr*norm(p)/norm(r)*r

    It is AdamW with trust_ratio="update" and eps=1e-6. Where norm(p) or norm(r) is 0, their ratio counts as 1. Biases
    and the scales of layers are mostly left out, in a group of their own: {"params": biases, "trust_ratio": False,
    "weight_decay": 0}.

    Source: "Large Batch Optimization for Deep Learning: Training BERT in 76 Minutes", https://arxiv.org/abs/1904.00962.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-06
        Added to the root of the second moment. With 0, a parameter whose gradient was 0 so far becomes NaN (0/0).
    eps_root : float or callable, default 0.0
        Added inside the root.
    eps_mode : {'outside', 'hat'}, default 'outside'
        "outside": eps is added to sqrt(v/c2); "hat": to sqrt(v), as in the paper's shortcut.
    bias_correction : {False, True}, default True
        False: the moments are used as they are.
    weight_decay : float or callable, default 0.01
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'decoupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default 'update'
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.001,
        *,
        b1: Hyper = 0.9,
        b2: Hyper = 0.999,
        eps: Hyper = 1e-06,
        eps_root: Hyper = 0.0,
        eps_mode: Literal['outside', 'hat'] = 'outside',
        bias_correction: bool = True,
        weight_decay: Hyper = 0.01,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'decoupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: Literal[False, 'update', 'gradient'] = 'update',
        trust_coefficient: Hyper = 1.0,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

class LARS(Optimizer):
    """LARS (You et al. 2017): Momentum with a learning rate for each tensor.

        trust = trust_coefficient*norm(p)/(norm(g) + weight_decay*norm(p))
        v <- mu*v + lr*trust*(g + weight_decay*p)
        p <- p - v

    It is Momentum with trust_ratio="gradient", and mu is the argument `momentum`. The first step moves a tensor by at
    most lr*trust_coefficient of its length, which is 1e-6 with the defaults: give a larger lr. Where norm(p) or norm(g)
    is 0, trust is 1. Biases are mostly left out, in a group with an lr of its own: {"params": biases, "trust_ratio":
    False, "weight_decay": 0, "lr": 0.01}.

    Source: "Large Batch Training of Convolutional Networks", https://arxiv.org/abs/1708.03888.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        The arrays that steps update in place: float64, float32, float16 or bfloat16, in lists, tuples, dicts and
        dataclasses, nested in any way. Or a list of groups, {"params": ..., "lr": ..., ...}; a group may have a
        `state`, a `rounding` and a `mask` of its own.
    lr : float or callable, default 0.001
        Learning rate.
    momentum : float or callable, default 0.9
        mu: the share of the velocity that a step keeps, in [0, 1).
    dampening : float or callable, default 0.0
        d: the gradient enters the velocity times 1 - d, in [0, 1].
    form : {'textbook', 'negative', 'outside'}, default 'textbook'
        "textbook": the velocity holds lr. "negative": it holds -lr. "outside": lr multiplies the velocity on its way
        out.
    first_step : {'zero', 'copy'}, default 'zero'
        "zero": the velocity starts at 0. "copy": the first velocity is the gradient itself, whatever dampening is
        (torch).
    weight_decay : float or callable, default 0.0005
        Strength of the decay, which pulls parameters towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": weight_decay*p is added to the gradient (L2). "decoupled": p shrinks by lr*weight_decay*p, beside the
        step. "independent": it shrinks by weight_decay*p, whatever lr is.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step where its update and its gradient differ in sign, or one is 0 (Liang et al.
        2024). "scaled": so too; if k of the n elements of a tensor move, they take n/(k+1) times their update.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this. 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this (Shazeer and Stern 2018). 0: no limit.
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter is made no longer than this times the row (Brock et al. 2021). A row
        counts as 1e-3 long at least; a parameter with one axis is one row. 0: no limit.
    trust_ratio : {False, 'update', 'gradient'}, default 'gradient'
        "update": the update of a tensor, with its decoupled decay, is made lr times as long as the tensor (You et al.
        2020: LAMB). "gradient": the gradient, with coupled decay, is multiplied by |p|/(|g| + weight_decay*|p|), where
        |p| is the length of a tensor (You et al. 2017: LARS). Where a length is 0, the factor is 1.
    trust_coefficient : float or callable, default 0.001
        A factor of the trust ratio. Where a length is 0, it is not used.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`. Other arguments override them.
    state : str, dict or callable, optional
        How the state is stored: a word for all states, or words by name, {"m": "bf16", "v": "q8"}. By default it is
        float32, and float64 for float64 parameters, whatever else the parameters are stored as. "float32", "float64",
        "float16" and "bfloat16" (also "f32", "f64", "f16", "bf16") round to nearest. "f16s" and "bf16s" round up or
        down by chance, so that small changes add up. "q8" takes eight bits, and 128 numbers share an exponent. A
        function of a parameter's path and array returns one of these words. A dict may also hold state arrays that are
        there already, in the structure of the parameters: {"m": arrays}, or {"m": ("q8", arrays)} where the dtype does
        not tell the format. Steps update them in place, from the numbers that they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are rounded. "nearest": small steps may be lost. "stochastic": up or down by chance, right
        on average. "remainder", for bfloat16: 16 more bits keep what it lacks of a float32. Wider parameters need none
        of it; if all are, an optimizer warns.
    average : float, callable or True, optional
        d, in [0, 1), or True for 0.999. The same pass keeps a running average of the parameters, average <- d*average +
        (1-d)*p. It is the state "average", starts at the parameters, and is float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor), or True for (0.98, 2.0). A running average of the gradient keeps this share of itself in a
        step, and factor times the average is added to the gradient (Lee et al. 2024). It is the state "grokfast".
    mars : float, callable or True, optional
        gamma, or True for 0.025, as in the paper. gamma*b1/(1-b1) times the change of the gradient since the last step
        is added to the gradient. The result is made at most 1 long, as a whole tensor (Yuan et al. 2024). The state
        "mars" is the last gradient. For optimizers that have b1.
    schedule_free : float, callable or True, optional
        b of Schedule-Free learning (Defazio et al. 2024), in [0, 1), or True for 0.9. Steps move a point z, and x is
        the average of all z, weighted by lr^2. The parameters are p = (1-b)*z + b*x: take gradients there. Evaluate and
        keep x, which is `evaluation_point()`. lr needs no schedule but a warm-up. The state "schedule_free" is x - p,
        float32 unless `state` names it; where b changes between steps, z moves. This takes the place of momentum:
        `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Arrays that a step writes the new parameters to as well, in the format of these arrays: bfloat16 beside float32
        parameters, for example.
    seed : int
        The seed of the random bits of stochastic rounding. These are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements of the whole lie before each. The random bits are
        then those of the whole. If the whole has another number among its tensors, give a pair: that number, and these
        elements. With states of eight bits, give a multiple of 128.
    threads : int, optional
        The most threads that a step uses. By default all that the process may use, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a graph may capture a step, and may be replayed for so many steps. See `tabulate`.
    """
    def __init__(
        self,
        params: Any,
        lr: Hyper = 0.001,
        *,
        momentum: Hyper = 0.9,
        dampening: Hyper = 0.0,
        form: Literal['textbook', 'negative', 'outside'] = 'textbook',
        first_step: Literal['zero', 'copy'] = 'zero',
        weight_decay: Hyper = 0.0005,
        decay: Literal['coupled', 'decoupled', 'independent'] = 'coupled',
        maximize: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        update_clip: Hyper = 0.0,
        update_rms: Hyper = 0.0,
        adaptive_clip: Hyper = 0.0,
        trust_ratio: Literal[False, 'update', 'gradient'] = 'gradient',
        trust_coefficient: Hyper = 0.001,
        like: Literal["torch", "optax", "keras", "sklearn"] | None = None,
        state: str | Mapping[str, Any] | Callable[[str, Any], Any] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = 'nearest',
        average: Hyper | bool | None = None,
        grokfast: tuple[Hyper, Hyper] | bool | None = None,
        mars: Hyper | bool | None = None,
        schedule_free: Hyper | bool | None = None,
        copy: Any = None,
        seed: int = 0,
        first: Any = 0,
        threads: int | None = None,
        capturable: int | None = None,
    ) -> None: ...

ALL: dict[str, type[Optimizer]]
NAMED: dict[str, type[Optimizer]]

def optimizer(rule: Rule, name: str | None = None, doc: str | None = None) -> type[Optimizer]: ...
def chosen(kind: Any, where: str, name: str) -> type[Optimizer]: ...
def stub() -> str: ...
