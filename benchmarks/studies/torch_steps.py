"""What a step of `fastopt.torch` takes beside fastopt's on NumPy arrays and torch's fused AdamW.

``python -m benchmarks.studies.torch_steps [--shapes "148 x 8"] [--steps 600]`` prints the shortest step of each, taking
turns: of fastopt.torch with gradients where they were, and with new ones at other addresses.
"""
import argparse
from collections.abc import Sequence
from time import perf_counter

import torch

import fastopt
import fastopt.torch

from ..common import SHAPES
from ..steps import filled


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="torch_steps", description=str(__doc__).splitlines()[0])
    parser.add_argument("--shapes", default="148 x 8", choices=list(SHAPES), help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=600, help="of each (default: %(default)s)")
    given = parser.parse_args(words)
    arrays, gradients = ([filled(shape if isinstance(shape, tuple) else (shape,), "f32", scale, seed)
                          for seed, shape in enumerate(SHAPES[given.shapes])] for scale in (1.0, 0.01))
    tensors = [[torch.nn.Parameter(torch.from_numpy(x.copy())) for x in arrays] for _ in range(2)]
    for of in tensors:
        for p, g in zip(of, gradients, strict=True):
            p.grad = torch.from_numpy(g.copy())
    opts = fastopt.AdamW(arrays), fastopt.torch.AdamW(tensors[0]), torch.optim.AdamW(tensors[1], fused=True)

    def move() -> None:
        for p in tensors[0]:
            p.grad = p.grad.clone()
    cases = {"NumPy": (lambda: opts[0].step(gradients), None), "fastopt.torch": (opts[1].step, opts[1].step),
             "its new gradients": (opts[1].step, move), "torch, fused": (opts[2].step, None)}
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(given.steps):
        for name, (step, before) in cases.items():
            if before is not None:
                before()
            begun = perf_counter()
            step()
            best[name] = min(best[name], perf_counter() - begun)
    for name, seconds in best.items():
        print(f"{name:<18}{seconds*1e6:>12,.0f} us{seconds/best['NumPy']:>10.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
