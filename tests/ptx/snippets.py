"""Short PTX programs around one instruction: what the interpreter's tests share."""
import numpy as np

from . import Kernel, Memory, Run

MODULE = """.version 8.7
.target sm_{cc}
.address_size 64
.visible .entry k({params}) .maxntid 64, 1, 1
{{
.reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<33>; .reg .b64 %d<33>;
{declarations}
{body}
ret;
}}
"""
INDEX = "mov.u32 %r31, %ctaid.x; mov.u32 %r30, %ntid.x; mov.u32 %r29, %tid.x; mad.lo.u32 %r28, %r31, %r30, %r29;"
UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def module(body, params="", declarations="", cc=90):
    return MODULE.format(body=body, params=params, declarations=declarations, cc=cc)


def launch(body, *arrays, grid=1, block=32, cc=90, declarations="", **how):
    """Run a body on arrays, whose addresses are in %d0, %d1, ...; %r28 is the number of the thread."""
    params = ", ".join(f".param .u64 q{k}" for k in range(len(arrays)))
    pointers = "\n".join(f"ld.param.u64 %d{k}, [q{k}];" for k in range(len(arrays)))
    memory = Memory()
    args = [memory.add(np.ascontiguousarray(array), f"q{k}") for k, array in enumerate(arrays)]
    return Run(Kernel(module(f"{INDEX}\n{pointers}\n{body}", params, declarations, cc)), grid, block, args, memory,
               **how)


def own(register, size, of="%r28", base=None):
    """Code that moves an address to the thread's own element."""
    return f"mul.wide.u32 %d32, {of}, {size}; add.s64 {register}, {base or register}, %d32;"


def computed(code, out, *inputs):
    """What the code leaves in %x, as words of `out` bytes: a thread for each element of %a, %b and %c."""
    n = len(inputs[0])
    result, declared, body = np.zeros(n, UNSIGNED[out]), [f".reg .b{8*out} %x;"], []
    for k, (name, x) in enumerate(zip("abc", inputs, strict=False), 1):
        declared.append(f".reg .b{8*x.itemsize} %{name};")
        body += [own(f"%d{k}", x.itemsize), f"ld.global.b{8*x.itemsize} %{name}, [%d{k}];"]
    launch(f"""setp.ge.u32 %p8, %r28, {n}; @%p8 bra end; {" ".join(body)} {code}
        {own("%d0", out)} st.global.b{8*out} [%d0], %x; end:""", result, *inputs, grid=-(-n//64), block=64,
           declarations="\n".join(declared))
    return result
