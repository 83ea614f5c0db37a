"""What storage in fewer bits does to a longer training: a character transformer of 5.4 million parameters.

``python -m benchmarks.studies.transformer [--seeds 3] [--steps 2000] [--jobs 2] [--keep FILE]`` prints a table.

The text is that of Python's own help (pydoc_data.topics), each paragraph once: some are in several topics, and would be
in the learned and in the held-out part. The last tenth is held out. Torch computes the gradients in float32 on one
thread, and AdamW steps the NumPy arrays. A seed is that of first weights, batches and stochastic rounding, so
configurations differ in nothing else. One seed's difference is partly luck: trainings that differ a little part.
"""
import argparse
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

import fastopt
from fastopt import schedules

from . import seeds
from .training import CONFIGURATIONS, REFERENCE, stored, visible

RATE, WARMUP, DECAY, CLIP = 1e-3, 0.05, 0.1, 1.0
MARKS = 4        # times that losses are noted
HELD = 256       # windows in which a loss is taken, of the learned and of the held-out part
CONFIGURED = [REFERENCE, "bf16 state", "8-bit state", "all bf16", "all bf16, nearest"]  # the last: what not to do


class Size(NamedTuple):
    """Of the network, and of a batch: windows of `context` characters."""

    width: int
    depth: int
    heads: int
    context: int
    batch: int


SIZES = {"full": Size(384, 3, 6, 32, 4), "tiny": Size(16, 1, 2, 8, 2)}


@cache
def text() -> tuple[np.ndarray, np.ndarray, int]:
    """The characters to learn and those held out, as numbers, and how many differ."""
    from pydoc_data.topics import topics
    paragraphs = dict.fromkeys(part for name in sorted(topics) for part in topics[name].split("\n\n"))
    letters, codes = np.unique(list("\n\n".join(paragraphs)), return_inverse=True)
    cut = len(codes)*9//10
    return codes[:cut], codes[cut:], len(letters)


def initial(of: Size, letters: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """As GPT-2's: matrices of deviation 0.02, smaller where they add to the residual; norms are 1; no biases."""
    d, shrunk = of.width, 0.02/np.sqrt(2*of.depth)
    shapes: dict[str, tuple[tuple[int, ...], float]] = {"embed": ((letters, d), 0.02), "place": ((of.context, d), 0.02)}
    for k in range(of.depth):
        shapes |= {f"before{k}": ((d,), 0), f"qkv{k}": ((d, 3*d), 0.02), f"out{k}": ((d, d), shrunk),
                   f"between{k}": ((d,), 0), f"up{k}": ((d, 4*d), 0.02), f"down{k}": ((4*d, d), shrunk)}
    shapes |= {"last": ((d,), 0), "head": ((d, letters), 0.02)}
    return {name: (float(not scale) + scale*rng.standard_normal(shape)).astype(np.float32)
            for name, (shape, scale) in shapes.items()}


def scores(of: Size, w: dict[str, Any], rows: Any) -> Any:
    """Those of each character as the next one, at each place of windows of `context` characters."""
    from torch.nn import functional as F
    d, n = of.width, of.context
    h = w["embed"][rows] + w["place"]
    for k in range(of.depth):
        joined = F.layer_norm(h, (d,), w[f"before{k}"]) @ w[f"qkv{k}"]
        parts = joined.view(-1, n, 3, of.heads, d//of.heads).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).reshape(-1, n, d)
        h = h + seen @ w[f"out{k}"]
        h = h + F.gelu(F.layer_norm(h, (d,), w[f"between{k}"]) @ w[f"up{k}"]) @ w[f"down{k}"]
    return F.layer_norm(h, (d,), w["last"]) @ w["head"]


def loss(of: Size, w: dict[str, Any], windows: np.ndarray) -> Any:
    """The mean cross-entropy of each next character of windows of context + 1 characters."""
    import torch
    rows = torch.from_numpy(windows)
    found = scores(of, w, rows[:, :-1]).flatten(0, 1)
    return torch.nn.functional.cross_entropy(found, rows[:, 1:].flatten())


def measured(of: Size, params: dict[str, np.ndarray], codes: np.ndarray) -> float:
    """The loss in windows from all over a part, the same at each call."""
    import torch
    weights = {name: torch.from_numpy(p) for name, p in visible(params).items()}
    starts = np.linspace(0, len(codes) - of.context - 1, HELD).astype(int)
    windows = codes[starts[:, None] + np.arange(of.context + 1)]
    with torch.no_grad():
        return float(np.mean([loss(of, weights, windows[k:k + 16]).item() for k in range(0, HELD, 16)]))


def train(configuration: str, seed: int, steps: int, size: str) -> dict[str, Any]:
    """Parameters, bytes kept for each, and at each mark: the step, the loss of the learned part and of the held-out."""
    import torch
    torch.set_num_threads(1)
    of, (format, options), (learned, held, letters) = SIZES[size], CONFIGURATIONS[configuration], text()
    rng = np.random.default_rng(seed)
    params = stored(initial(of, letters, rng), format)
    opt = fastopt.AdamW(params, schedules.cosine(RATE, steps=steps, warmup=round(WARMUP*steps)), weight_decay=DECAY,
                        threads=1, seed=seed, **options)
    marks, curve = {round(steps*k/MARKS) for k in range(1, MARKS + 1)}, []
    for t in range(1, steps + 1):
        starts = rng.integers(0, len(learned) - of.context, of.batch)
        weights = {name: torch.from_numpy(p).requires_grad_() for name, p in visible(params).items()}
        value = loss(of, weights, learned[starts[:, None] + np.arange(of.context + 1)])
        grads = torch.autograd.grad(value, list(weights.values()))
        opt.step(stored({name: g.numpy() for name, g in zip(weights, grads, strict=True)}, format), clip_norm=CLIP)
        if t in marks:
            curve.append((t, measured(of, params, learned), measured(of, params, held)))
    n = sum(p.size for p in params.values())
    kept = sum(a.nbytes for tree in (params, *opt.state.values()) for a in tree.values())
    return {"parameters": n, "kept": kept/n, "curve": curve}


def rows(results: dict[seeds.Case, Any], chosen: Sequence[str], count: int, steps: int, size: str) -> list[str]:
    """A row for each configuration; differences are to float32 of the same seed."""
    ends, lines = {}, []
    for configuration in chosen:
        of = [results[configuration, seed, steps, size] for seed in range(count)]
        curves = np.array([one["curve"] for one in of])  # seed, mark, (step, learned, held out)
        ends[configuration] = curves[:, -1, 1:]
        means = [*curves[:, :, 2].mean(0), curves[:, -1, 1].mean()]
        cells = [f"{of[0]['kept']:.2f}", *(f"{x:.3f}" for x in means)]
        for part in (1, 0):
            over = ends[configuration][:, part] - ends[REFERENCE][:, part]
            mean, low, high = seeds.interval(over)
            cells.append("0" if configuration == REFERENCE else f"{mean:+.4f} ({low:+.4f} to {high:+.4f})")
        lines.append(f"| {configuration} | {' | '.join(cells)} |")
    learned, held = ends[REFERENCE].std(0, ddof=1)
    return [*lines, "", f"Between seeds float32's last loss has a standard deviation of {held:.4f} in the held-out "
                        f"part, {learned:.4f} in the learned part."]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="transformer", description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each configuration (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=2_000, help="of each training (default: %(default)s)")
    parser.add_argument("--size", choices=SIZES, default="full", help="tiny: to see that it works")
    parser.add_argument("--also", nargs="*", choices=CONFIGURED[1:], default=CONFIGURED[1:], metavar="NAME",
                        help=f"configurations beside {REFERENCE}'s (default: {', '.join(CONFIGURED[1:])})")
    given = seeds.parsed(parser, words, seeds=2, steps=MARKS)
    chosen = [REFERENCE, *given.also]
    cases = [(name, seed, given.steps, given.size) for seed in range(given.seeds) for name in chosen]
    results = seeds.found(train, cases, given.jobs, given.keep)
    marks = [t for t, *_ in results[cases[0]]["curve"]]
    heads = ["configuration", "bytes kept per parameter", *(f"held out, step {t:,}" for t in marks), "learned, last",
             "held out, over float32's (95 %)", "learned, over float32's (95 %)"]
    table = rows(results, chosen, given.seeds, given.steps, given.size)
    print(f"{results[cases[0]]['parameters']:,} parameters; mean losses of {given.seeds} seeds", "",
          f"| {' | '.join(heads)} |", "|" + "---|"*len(heads), *table, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
