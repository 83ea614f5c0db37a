"""Adam by hand in CUDA C++, float32 in accesses of 16 bytes: what our kernel is counted against. Never run. NVRTC
compiles it with the flags that our kernels are linked with: no contraction of products and sums, divisions and square
roots by the IEEE rules, subnormal numbers kept. The coefficients are read from memory, once, as ours are."""
import functools

FLAGS = ("--fmad=false", "--prec-div=true", "--prec-sqrt=true", "--ftz=false", "--std=c++17")
STORED, MOVED = 12, 28  # bytes of an element: p, m and v written; all of them and g read

FRAME = """
struct Coefficients { %s };

#define EACH(of) of(x) of(y) of(z) of(w)

extern "C" __global__ void __launch_bounds__(256)
adam(const float4* __restrict__ gs, float4* __restrict__ ps, float4* __restrict__ ms, float4* __restrict__ vs,
     const Coefficients* __restrict__ cs, unsigned long long n)
{
    const Coefficients c = *cs;
    const unsigned long long threads = (unsigned long long)gridDim.x*blockDim.x;
    for (unsigned long long i = (unsigned long long)blockIdx.x*blockDim.x + threadIdx.x; i < n; i += threads) {
        float4 g = gs[i], p = ps[i], m = ms[i], v = vs[i];
        EACH(UPDATE)
        ps[i] = p;
        ms[i] = m;
        vs[i] = v;
    }
}
"""

BARE = """
#define UPDATE(x) \\
    m.x = c.b1*m.x + c.a1*g.x; \\
    v.x = c.b2*v.x + c.a2*g.x*g.x; \\
    p.x = p.x - c.lr*m.x/(sqrtf(v.x) + c.eps);
""" + FRAME % "float lr, b1, a1, b2, a2, eps;"

SAME_WORK = """
#define UPDATE(x) \\
    g.x = c.scale*g.x; \\
    g.x = g.x < -c.clip ? -c.clip : g.x;  /* not fminf, which would drop a NaN */ \\
    g.x = g.x > c.clip ? c.clip : g.x; \\
    g.x = g.x + c.l2*p.x; \\
    m.x = c.b1*m.x + c.a1*g.x; \\
    v.x = c.b2*v.x + c.a2*g.x*g.x; \\
    p.x = p.x - (c.lr*m.x/(sqrtf(v.x + c.root) + c.eps) + c.wd*p.x);
""" + FRAME % "float scale, clip, l2, wd, lr, b1, a1, b2, a2, eps, root;"

SOURCES = {"bare": BARE,            # the paper's lines and nothing else
           "same work": SAME_WORK}  # a step with all pieces, operation by operation


def compiled(source: str, cc: tuple[int, int], *flags: str) -> bytes:
    """The cubin that NVRTC makes of CUDA C++; ValueError with its log, or ImportError without cuda-bindings."""
    from cuda.bindings import nvrtc

    def check(result):
        error, *values = result
        if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise ValueError(f"NVRTC: {error.name}\n{log()}")
        return values[0] if values else None

    def log():
        text = bytearray(nvrtc.nvrtcGetProgramLogSize(program)[1])
        nvrtc.nvrtcGetProgramLog(program, text)
        return text.rstrip(b"\0").decode()

    program = check(nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, [], []))
    try:
        options = [f"--gpu-architecture=sm_{cc[0]}{cc[1]}".encode(), *(flag.encode() for flag in flags)]
        check(nvrtc.nvrtcCompileProgram(program, len(options), options))
        image = bytearray(check(nvrtc.nvrtcGetCUBINSize(program)))
        check(nvrtc.nvrtcGetCUBIN(program, image))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return bytes(image)


@functools.cache
def adam(name: str, cc: tuple[int, int]) -> bytes:
    """The cubin of one of `SOURCES`."""
    return compiled(SOURCES[name], cc, *FLAGS)
