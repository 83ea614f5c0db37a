"""What the studies of losses share: trainings of several seeds, on some cores, kept in a file, and their interval."""
import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

CONFIDENCE = 0.95
ONE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
Case = tuple[Any, ...]  # strings and numbers


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """The mean of two values or more, and the two ends of its t interval."""
    from scipy import stats
    n, mean = len(values), float(np.mean(values))
    half = float(stats.t.ppf((1 + confidence)/2, n - 1)*np.std(values, ddof=1)/np.sqrt(n))
    return mean, mean - half, mean + half


def found(work: Callable[..., Any], cases: Iterable[Case], jobs: int, keep: str | None) -> dict[Case, Any]:
    """What `work` gives for each case; those that the file holds are not worked on again.

    Each job is a process with one thread, which gains nothing from a second one with matrices as small as these.
    """
    lines = Path(keep).read_text(encoding="utf-8").splitlines() if keep and Path(keep).exists() else []
    done = {tuple(case): result for case, result in map(json.loads, lines)}
    cases = list(cases)
    left = [case for case in cases if case not in done]

    def add(case: Case, result: Any) -> None:
        done[case] = result
        if keep:
            with open(keep, "a", encoding="utf-8") as file:
                file.write(json.dumps([case, result]) + "\n")
        print(f"{len(done)} done: {' '.join(map(str, case))}", file=sys.stderr, flush=True)

    if jobs == 1:
        for case in left:
            add(case, work(*case))
    elif left:
        os.environ.update(ONE)  # for the processes to come
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            futures = {pool.submit(work, *case): case for case in left}
            for future in as_completed(futures):
                add(futures[future], future.result())
    return {case: done[case] for case in cases}


def parsed(parser: argparse.ArgumentParser, words: Sequence[str] | None, **least: int) -> argparse.Namespace:
    """The options, --jobs and --keep among them; those of `least` must be as large as that, or larger."""
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, one thread each "
                                                            "(default: %(default)s)")
    parser.add_argument("--keep", metavar="FILE", help="results are added to it; a second run goes on from there")
    given = parser.parse_args(words)
    for name, low in {**least, "jobs": 1}.items():
        if getattr(given, name) < low:
            parser.error(f"--{name} is {getattr(given, name)}, but at least {low} is needed.")
    return given
