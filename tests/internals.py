"""What the tests ask of the inside of the package, in one place: kernels, their code, and jobs on rows of arrays.
Formats are a text: "f32* bf16 q43" is a strided float32 gradient, a bfloat16 parameter, a state in blocks of q43."""
import numpy as np
from conftest import RULES, layout, normal

from fastopt._cpu import jobs, loops
from fastopt._formats.bits import emit
from fastopt._kernels.llvm import code
from fastopt._rule.pieces import PLAIN
from fastopt._rule.pipeline import pipeline
from fastopt._tensors.tensors import gradient, tensor

OWN_RULE = """
@fastopt.rule(state="v", lr=0.5)
def mine(c, g, p, v):
    v = v + g
    u = c.lr*v
    return u, v
"""  # for programs, and scripts that are edited


def of_formula(formula, result, *kinds):
    """A function that Numba compiles, of a format's formula of one value, two or three, of these types of Numba's."""
    def emitted(builder, *values):
        return emit(builder, formula, kinds, values)
    return code(result, *kinds)((lambda context, builder, x: emitted(builder, x),
                                 lambda context, builder, x, y: emitted(builder, x, y),
                                 lambda context, builder, x, y, z: emitted(builder, x, y, z))[len(kinds) - 1])


def formats_of(rule, format, state=None):
    """A gradient and a parameter of one format, the states of another: by default that of the arithmetic."""
    return " ".join([format, format, *[state or ("f64" if format == "f64" else "f32")]*len(rule.state)])


def float_type(formats):
    """The NumPy type of a step's arithmetic."""
    return layout(formats).arithmetic.dtype.type


def cpu_kernel(rule, formats, anew=False):
    """The CPU kernel of a step. `anew`: from the disk or the compiler, even if this process has it already."""
    return (loops.step_kernel.__wrapped__ if anew else loops.step_kernel)(pipeline(rule), layout(formats))


def compile_step(rule, format="f32"):
    """The CPU kernel of a rule (or of the one with this name) in one format, from the disk or the compiler."""
    rule = RULES.get(rule, rule)
    return cpu_kernel(rule, formats_of(rule, format), anew=True)


def norm_kernel(formats):
    """The CPU kernel of the sums of squares, from the disk or the compiler."""
    return loops.squares_kernel.__wrapped__(layout(formats))


def of_the_disk(kernel):
    """Whether a CPU kernel was read from the disk."""
    return kernel.run._cache.hit


def text_of(kernel, kind):
    """The code of a CPU kernel, as "llvm" or "asm"."""
    return next(iter(getattr(kernel.run, f"inspect_{kind}")().values()))


def job(formats, columns, coefficients, layouts=(), tile=0):
    """A job for one tensor, or several: `columns` holds a list of arrays for each slot, gradients first."""
    groups, kind = [0]*len(columns[0]), float_type(formats)
    return jobs.Job(layout(formats), columns, groups, np.array([tuple(coefficients)], kind), layouts, tile)


def steps_right(kernel):
    """Whether a kernel of Adam's float32 step does what the rule does."""
    rule, (g, p, m, v) = RULES["adam"], [abs(normal(k, 77)).astype(np.float32) for k in range(4)]
    c = rule.at(3, np.float32)
    want = rule(c, g, p.copy(), m.copy(), v.copy())
    job("f32 f32 f32 f32", [[g], [p], [m], [v]], c).run(kernel, 1)
    return all(np.array_equal(a, b) for a, b in zip((p, m, v), want, strict=True))


# CUDA: its modules are imported where numba-cuda is installed only

def slots_of(formats):
    """The format of each slot, its place among the arrays of a row, and that of the next slot."""
    of = layout(formats)
    return list(zip(of.formats, of.starts, [*of.starts[1:], of.columns], strict=True))


def cuda_code(rule, formats, cc, form="cubin"):
    """The code of a step for a chip: its name and an ELF image, or PTX as a text."""
    from fastopt._cuda import loops
    code = loops.step(pipeline(rule), layout(formats), cc, *(["ptx"] if form == "ptx" else []))
    return code.image.decode() if form == "ptx" else (code.name, code.image)


def cuda_lanes(formats, cc):
    """How many elements one thread takes at once."""
    from fastopt._cuda import loops
    return loops.lanes_of(layout(formats), cc)


def strided_gradient(view, parameter):
    """The extents and strides of a gradient that does not lie as its parameter does, as kernels read them."""
    bound = gradient(view, tensor(parameter, "params", 0), "grads")
    assert bound.slot.strided
    return bound.strides


def sums_of_squares(formats, gradients):
    """The partial sums of the norm, by the CPU."""
    coefs = np.zeros((1, len(pipeline(RULES["sgd"]).fields)), float_type(formats))
    columns = [gradients, [g.copy() for g in gradients]]
    return np.array(jobs.Bucket(layout(formats), columns, [0]*len(gradients), coefs).sums_of_squares(1))


def with_pieces(rule, *names, plain=PLAIN):
    """A rule with these pieces around it, beside those that any rule may have."""
    return pipeline(rule, (*plain, *names))
