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

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.001
        Learning rate.
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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

    v <- mu*v + lr*g;  p <- p - v
    form="negative": v <- mu*v - lr*g;  p <- p + v      form="outside": v <- mu*v + (1-d)*g;  p <- p - lr*v
    The forms walk the same points while lr is constant; under a schedule "outside" applies today's lr to old gradients.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.001
        Learning rate.
    momentum : float or callable, default 0.9
        mu: the share of the velocity that a step keeps, in [0, 1).
    dampening : float or callable, default 0.0
        d: the gradient enters the velocity times 1 - d, in [0, 1].
    form : {'textbook', 'negative', 'outside'}, default 'textbook'
        Where lr and the sign stand: "textbook" (velocity holds lr), "negative" (its sign twin), "outside" (p - lr*v).
    first_step : {'zero', 'copy'}, default 'zero'
        "copy": the first step copies the gradient into the velocity, dampening or not (torch); "zero": it does not.
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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

    v <- mu*v + lr*g(p - mu*v);  p <- p - v
    shifted=True (torch, Keras, scikit-learn): the stored p is the look-ahead point,
    v <- mu*v + lr*g(p);  p <- p - (mu*v + lr*g)
    Both walk the same look-ahead points at constant lr and mu. They part when mu changes between steps, when lr does
    under form="outside", and with any weight decay, which pulls at the stored weights of each.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.001
        Learning rate.
    momentum : float or callable, default 0.9
        mu: the share of the velocity that a step keeps, in [0, 1).
    dampening : float or callable, default 0.0
        d: the gradient enters the velocity times 1 - d, in [0, 1].
    form : {'textbook', 'negative', 'outside'}, default 'textbook'
        Where lr and the sign stand: "textbook" (velocity holds lr), "negative" (its sign twin), "outside" (p - lr*v).
    first_step : {'zero', 'copy'}, default 'zero'
        "copy": the first step copies the gradient into the velocity, dampening or not (torch); "zero": it does not.
    shifted : {False, True}, default False
        True: the stored parameters are the look-ahead point (torch, Keras); gradients are then taken at them.
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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

    m <- b1*m + (1-b1)*g;  p <- p - lr*sign(m)

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.0001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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
    """Rprop (Riedmiller and Braun 1993; without backtracking, as in torch): every element has a step size of its own.

    It grows while the gradient keeps its sign, and shrinks where the sign changes; there the element waits a step.
    s = sign(g*old);  size <- min(max(size*(eta_plus if s > 0, eta_minus if s < 0, else 1), size_min), size_max)
    g <- 0 where s < 0;  p <- p - size*sign(g);  old <- g.    size is lr at first. For gradients of all data at once.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
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
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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

    v <- alpha*v + (1-alpha)*g^2;  p <- p - lr*g / (sqrt(v + eps_root) + eps)

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.01
        Learning rate.
    alpha : float or callable, default 0.99
        The share of the squared average that a step keeps, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so far.
    eps_root : float or callable, default 0.0
        Added inside the root.
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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
    """RMSProp with momentum (torch, optax, Keras; Graves 2013): its update goes through a velocity.

    v <- alpha*v + (1-alpha)*g^2;  b <- mu*b + lr*g / (sqrt(v + eps_root) + eps);  p <- p - b
    form="outside" (torch): b <- mu*b + g / (...);  p <- p - lr*b.    form="negative": b holds -lr, and is added.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.01
        Learning rate.
    alpha : float or callable, default 0.99
        The share of the squared average that a step keeps, in [0, 1).
    momentum : float or callable, default 0.9
        mu: the share of the velocity that a step keeps, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so far.
    eps_root : float or callable, default 0.0
        Added inside the root.
    form : {'textbook', 'negative', 'outside'}, default 'textbook'
        Where lr and the sign stand: "textbook" (velocity holds lr), "negative" (its sign twin), "outside" (p - lr*v).
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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
    """Centered RMSProp (Graves 2013; torch, optax, Keras): the gradient over a running standard deviation of it.

    v <- alpha*v + (1-alpha)*g^2;  mean <- alpha*mean + (1-alpha)*g
    p <- p - lr*g / (sqrt(max(v - mean^2, 0) + eps_root) + eps)
    The difference is small where gradients hardly change: keep both states in float32, or take a larger eps_root.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.01
        Learning rate.
    alpha : float or callable, default 0.99
        The share of the squared average that a step keeps, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so far.
    eps_root : float or callable, default 0.0
        Added inside the root.
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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
    """Centered RMSProp with momentum (Graves 2013, equations 38 to 41; torch, optax, Keras).

    v <- alpha*v + (1-alpha)*g^2;  mean <- alpha*mean + (1-alpha)*g
    b <- mu*b + lr*g / (sqrt(max(v - mean^2, 0) + eps_root) + eps);  p <- p - b;  form as in RMSPropMomentum.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.01
        Learning rate.
    alpha : float or callable, default 0.99
        The share of the squared average that a step keeps, in [0, 1).
    momentum : float or callable, default 0.9
        mu: the share of the velocity that a step keeps, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so far.
    eps_root : float or callable, default 0.0
        Added inside the root.
    form : {'textbook', 'negative', 'outside'}, default 'textbook'
        Where lr and the sign stand: "textbook" (velocity holds lr), "negative" (its sign twin), "outside" (p - lr*v).
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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

    v <- v + g^2;  p <- p - lr_t*g / (sqrt(v + eps_root) + eps),  lr_t = lr / (1 + (t-1)*lr_decay)

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.01
        Learning rate.
    lr_decay : float or callable, default 0.0
        The learning rate of step t is lr/(1 + (t-1)*lr_decay).
    eps : float or callable, default 1e-10
        Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so far.
    eps_root : float or callable, default 0.0
        Added inside the root.
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    initial_accumulator_value : float, default 0.0
        What the sum of squares starts from.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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
    """AdaDelta (Zeiler 2012): the gradient times the ratio of two running root mean squares, of updates and gradients.

    v <- alpha*v + (1-alpha)*g^2;  s = sqrt(d + eps)/sqrt(v + eps)*g;  d <- alpha*d + (1-alpha)*s^2;  p <- p - lr*s

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 1.0
        Learning rate.
    alpha : float or callable, default 0.9
        The share of the squared average that a step keeps, in [0, 1).
    eps : float or callable, default 1e-06
        Added inside both roots. With 0 no step is ever taken.
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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

    m <- b1*m + (1-b1)*g;  v <- b2*v + (1-b2)*g^2;  p <- p - lr * (m/c1) / (sqrt(v/c2 + eps_root) + eps),  ci = 1 - bi^t
    eps_mode="hat" (Keras, scikit-learn, the paper's own shortcut) divides by sqrt(v) + eps, with lr*sqrt(c2)/c1.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so far.
    eps_root : float or callable, default 0.0
        Added inside the root.
    eps_mode : {'outside', 'hat'}, default 'outside'
        "outside": eps is added to sqrt(v/c2); "hat": to sqrt(v), as in the paper's shortcut.
    bias_correction : {False, True}, default True
        False: the moments are used as they are.
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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
    """AdamW (Loshchilov and Hutter 2019): Adam with decoupled weight decay, p <- p - lr*wd*p beside u.

    The formula is Adam's; only the defaults differ: weight_decay=0.01, decay="decoupled".

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so far.
    eps_root : float or callable, default 0.0
        Added inside the root.
    eps_mode : {'outside', 'hat'}, default 'outside'
        "outside": eps is added to sqrt(v/c2); "hat": to sqrt(v), as in the paper's shortcut.
    bias_correction : {False, True}, default True
        False: the moments are used as they are.
    weight_decay : float or callable, default 0.01
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'decoupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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

    m <- b1*m + (1-b1)*g;  top <- max(b2*top, |g| + eps);  p <- p - lr*(m/c1) / top
    eps_mode="outside" (Keras): top <- max(b2*top, |g|);  p <- p - lr*(m/c1) / (top + eps).    The paper has no eps.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.002
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so far.
    eps_mode : {'inside', 'outside'}, default 'inside'
        "inside": eps is added to |g| (torch, optax); "outside": to top (Keras).
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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

    m <- b1*m + (1-b1)*g;  v <- b2*v + (1-b2)*(g-m)^2 + eps_root;  p <- p - lr*(m/c1) / (sqrt(v/c2) + eps)

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-16
        Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so far.
    eps_root : float or callable, default 1e-16
        Added to v in every step.
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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

    m <- b1*m + (1-b1)*g;  v <- v - (1-b2)*sign(v - g^2)*g^2;  p <- p - lr*(m/c1) / (sqrt(v/c2) + eps)
    The corrections ci = 1 - bi^t are those of optax and of the authors' code; the paper has none.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 0.001
        Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so far.
    bias_correction : {False, True}, default True
        False, as in the paper: the moments are used as they are.
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    initial_moment : float, default 0.0
        What the first moment starts from; optax: 1e-6.
    initial_accumulator_value : float, default 1e-06
        What the second moment starts from.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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

    v <- b2*v + (1-b2)*g^2;  m <- b1*m + (1-b1)*g / (sqrt(v/c2) + eps);  p <- p - lr*m/c1

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.0004
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-15
        Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so far.
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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
    """ADOPT (Taniguchi et al. 2024): Adam that converges with any b2: v lags a step, momentum is of normalized g.

    t = 1: v <- g^2, and p stays.    Then, k = (t-1)^(1/4):
    m <- b1*m + (1-b1)*min(max(g/max(sqrt(v), eps), -k), k);  p <- p - lr*m;  v <- b2*v + (1-b2)*g^2

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
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
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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

    m, v as in Adam;  top <- max(top, v);  p <- p - lr * (m/c1) / (sqrt(top/c2) + eps)
    maximum_of="corrected" (optax) takes the maximum over v/c2 instead, another sequence.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so far.
    eps_root : float or callable, default 0.0
        Added inside the root.
    eps_mode : {'outside', 'hat'}, default 'outside'
        "outside": eps is added to sqrt(v/c2); "hat": to sqrt(v), as in the paper's shortcut.
    maximum_of : {'raw', 'corrected'}, default 'raw'
        "raw": the maximum is over v (torch); "corrected": over v/c2 (optax).
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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

    m, v as in Adam;  p <- p - lr * (mu'*m/(1-P*mu') + (1-mu)*g/(1-P)) / (sqrt(v/c2) + eps)
    with mu = b1*(1 - 0.5*0.96^(t*momentum_decay)), mu' that of the next step, P the product of all mu so far, whatever
    b1 was. schedule="optax": mu = b1 throughout.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.002
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so far.
    momentum_decay : float or callable, default 0.004
        psi in the momentum schedule b1*(1 - 0.5*0.96^(t*psi)).
    schedule : {'torch', 'optax'}, default 'torch'
        "torch": the decaying momentum schedule; "optax": b1 at every step.
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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

    m, v as in Adam; rho = rho_inf - 2*t*b2^t/c2 with rho_inf = 2/(1-b2) - 1, the length of the average
    rho > 5: p <- p - lr * r * (m/c1) * sqrt(c2) / (sqrt(v) + eps)
             with r^2 = (rho-4)(rho-2)rho_inf / ((rho_inf-4)(rho_inf-2)rho)
    else:    p <- p - lr * (m/c1)

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so far.
    eps_mode : {'outside', 'hat'}, default 'hat'
        "outside": eps is added to sqrt(v/c2); "hat": to sqrt(v), as in the paper's shortcut.
    threshold : float or callable, default 5.0
        The average length above which the second moment is trusted (the paper: 4; torch and optax: 5).
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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

    m, v as in Adam;  slow <- b3_t*slow + (1-b3_t)*g
    p <- p - lr * (m/c1 + alpha_t*slow) / (sqrt(v/c2 + eps_root) + eps),  alpha_t = alpha*min(t/T, 1)
    b3_t = min(exp(1/((1-t/T)/log(b1) + (t/T)/log(b3))), b3), the paper's schedule, T being `warmup`.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
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
        Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so far.
    eps_root : float or callable, default 0.0
        Added inside the root.
    warmup : float or callable, default 0.0
        T: steps in which alpha and b3 grow; 0: they do not.
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'decoupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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
    """Lion (Chen et al. 2023): the sign of an interpolated momentum. Typical lr is 3-10 times smaller than AdamW's.

    p <- p - lr*sign(b1*m + (1-b1)*g);  m <- b2*m + (1-b2)*g

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.0001
        Learning rate.
    b1 : float or callable, default 0.9
        Weight of the momentum in the update, in [0, 1).
    b2 : float or callable, default 0.99
        Decay of the momentum, in [0, 1).
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'decoupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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

    k = g - old, 0 at the first step;  old <- g
    m <- b1*m + (1-b1)*g;  d <- b2*d + (1-b2)*k;  v <- b3*v + (1-b3)*(g + b2*k)^2
    p <- p - lr * (m/c1 + b2*d/c2) / (sqrt(v/c3) + eps),  ci = 1 - bi^t
    The paper's betas are 1 - b1, 1 - b2, 1 - b3. These b, their defaults and the corrections ci are those of the
    authors' code. Its decay is proximal, p <- (p - lr*u)/(1 + lr*wd). Here it is decoupled, as there with no_prox=True.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.98
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.92
        Decay of the average difference of gradients, in [0, 1).
    b3 : float or callable, default 0.99
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-08
        Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so far.
    weight_decay : float or callable, default 0.0
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'decoupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default False
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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

    r <- (m/c1) / (sqrt(v/c2) + eps) + weight_decay*p;  p <- p - lr*|p|/|r| * r,  |.| being the norm of a tensor

    It is AdamW with trust_ratio="update" and eps 1e-6. Where |p| or |r| is 0, it is 1. Biases and scales of layers
    are mostly left out, in a group of their own: {"params": biases, "trust_ratio": False, "weight_decay": 0}.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.001
        Learning rate.
    b1 : float or callable, default 0.9
        Decay of the first moment, in [0, 1).
    b2 : float or callable, default 0.999
        Decay of the second moment, in [0, 1).
    eps : float or callable, default 1e-06
        Added to the root of the second moment. With 0 a parameter becomes NaN (0/0) where its gradient was 0 so far.
    eps_root : float or callable, default 0.0
        Added inside the root.
    eps_mode : {'outside', 'hat'}, default 'outside'
        "outside": eps is added to sqrt(v/c2); "hat": to sqrt(v), as in the paper's shortcut.
    bias_correction : {False, True}, default True
        False: the moments are used as they are.
    weight_decay : float or callable, default 0.01
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'decoupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default 'update'
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 1.0
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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

    v <- mu*v + lr*trust*(g + weight_decay*p);  p <- p - v;  trust = trust_coefficient*|p|/(|g| + weight_decay*|p|)

    It is Momentum with trust_ratio="gradient". The first step moves a tensor by at most lr*trust_coefficient of its
    length, 1e-6 with the defaults: give a larger lr. Where |p| or |g| is 0, trust is 1. Biases are mostly left out, in
    a group with an lr of its own: {"params": biases, "trust_ratio": False, "weight_decay": 0, "lr": 0.01}.

    Parameters
    ----------
    params : array, tree of arrays, or groups
        What is updated in place: float64, float32, float16 or bfloat16 arrays, in lists, tuples, dicts, dataclasses,
        nested in any way; or a list of groups, {"params": ..., "lr": ..., ...}, which may have a `state` and `rounding`
        of their own.
    lr : float or callable, default 0.001
        Learning rate.
    momentum : float or callable, default 0.9
        mu: the share of the velocity that a step keeps, in [0, 1).
    dampening : float or callable, default 0.0
        d: the gradient enters the velocity times 1 - d, in [0, 1].
    form : {'textbook', 'negative', 'outside'}, default 'textbook'
        Where lr and the sign stand: "textbook" (velocity holds lr), "negative" (its sign twin), "outside" (p - lr*v).
    first_step : {'zero', 'copy'}, default 'zero'
        "copy": the first step copies the gradient into the velocity, dampening or not (torch); "zero": it does not.
    weight_decay : float or callable, default 0.0005
        Strength of the pull towards zero; see `decay`.
    decay : {'coupled', 'decoupled', 'independent'}, default 'coupled'
        "coupled": adds weight_decay*p to the gradient (L2); "decoupled": p shrinks by lr*weight_decay, beside the step;
        "independent": by weight_decay.
    maximize : {False, True}, default False
        True: climb instead of descend.
    cautious : {False, True, 'scaled'}, default False
        True: an element stays in a step whose update has another sign than its gradient, or is 0 (Liang et al. 2024).
        "scaled": the others take n/(k+1) of their update, where k of the n elements of a tensor move.
    cautious_decay : {False, True}, default False
        True: decoupled or independent decay acts only where the update does not lead away from zero (Chen et al. 2025).
    update_clip : float or callable, default 0.0
        No element's update is larger than lr times this; 0: no limit.
    update_rms : float or callable, default 0.0
        The root mean square of a tensor's update is no larger than lr times this; 0: no limit (Shazeer and Stern 2018).
    adaptive_clip : float or callable, default 0.0
        The gradient of each row of a parameter (of the whole, if that has one axis) is no longer than this times the
        row, which counts as 1e-3 long at least; 0: no limit (Brock et al. 2021).
    trust_ratio : {False, 'update', 'gradient'}, default 'gradient'
        "update": the update of a tensor with its decoupled decay, over lr, is made as long as the tensor (You et al.
        2020: LAMB). "gradient": so is its gradient with coupled decay, by |p|/(|g| + weight_decay*|p|) (You et al.
        2017: LARS). Where a length is 0, it stays as it is.
    trust_coefficient : float or callable, default 0.001
        A factor of the trust ratio; unused where a length is 0.
    like : {"torch", "optax", "keras", "sklearn"}, optional
        Start from the defaults and conventions of that system; see `fastopt.presets`.
    state : str, dict or callable, optional
        Storage of the state, for all or by name, {"m": "bf16", "v": "q8"}: "float32", "float64", "float16", "bfloat16"
        (to nearest; also "f32", "f64", "f16", "bf16"), "f16s", "bf16s" (rounded up or down by chance, so that small
        changes add up) or "q8" (eight bits, 128 numbers share an exponent). A function of a parameter's path and array
        returns one of these. By default float32, and float64 for float64 parameters, whatever the parameters are stored
        as. A dict may also hold state arrays that are there already, in the structure of the parameters: {"m": arrays},
        or {"m": ("q8", arrays)} where the dtype does not tell all. They are updated in place, from the numbers that
        they hold.
    rounding : {"nearest", "stochastic", "remainder"}
        How 16-bit parameters are stored: to nearest; up or down by chance; or (bfloat16) with what it lacks of a
        float32 in 16 more bits.
    average : float, callable or True, optional
        Keep a running average of the parameters in the same pass, average <- d*average + (1-d)*p, this being d, in [0,
        1); True: 0.999. It is the state "average", which starts at the parameters, float32 unless `state` names it.
    grokfast : tuple of two floats, or True, optional
        (share, factor): to each gradient factor times its running average is added, which keeps this share of itself in
        a step (Lee et al. 2024): the state "grokfast". True: (0.98, 2.0).
    mars : float, callable or True, optional
        gamma; True: 0.025, as in the paper. To each gradient gamma*b1/(1-b1) times its change since the last step is
        added, and that of a tensor is then made at most 1 long (Yuan et al. 2024). The last gradient is the state
        "mars". For optimizers that have b1.
    schedule_free : float, callable or True, optional
        Schedule-Free learning (Defazio et al. 2024) with this b, in [0, 1); True: 0.9. With the update u, and w = lr^2
        over the sum of all lr^2 so far: z <- z - u;  x <- (1-w)*x + w*z;  p <- (1-b)*z + b*x. Take gradients at the
        parameters p; evaluate and keep x, `evaluation_point()`. lr needs no schedule but a warm-up. The state
        "schedule_free" is x - p, float32 unless `state` names it; where b changes between steps, z moves. It takes the
        place of momentum: `momentum`, or b1 of Adam and its kin, is gone, and so is its state.
    copy : tree of arrays, optional
        Where the step writes the new parameters again, in the format of these arrays (bfloat16 beside float32
        parameters, for example).
    seed : int
        Of the random bits of stochastic rounding, which are a hash of seed, step, tensor and element.
    first : int or tree of int
        For arrays that are parts of larger ones: how many elements lie before each in the whole. Random bits are then
        those of the whole. If the whole has another number among its tensors, a pair: that number, and these elements.
        With states of eight bits, a multiple of 128.
    threads : int, optional
        The most threads that a step uses; by default all of the process, and no more than OMP_NUM_THREADS.
    capturable : int, optional
        On a CUDA device: a step may be captured into a graph, which may then be replayed for so many steps (see
        `tabulate`).
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
