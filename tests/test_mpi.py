"""State that is shared out among ranks gives the bits of one machine (tests/sharded.py is what the ranks check)."""
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastopt
from fastopt._cpu.norm import exact

pytest.importorskip("mpi4py")
safetensors = pytest.importorskip("safetensors")
TESTS = Path(__file__).parent
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
MPIRUN = shutil.which("mpirun", path=PATH)
needs_ranks = pytest.mark.skipif(MPIRUN is None, reason="no mpirun is installed")
ENVIRONMENT = {**os.environ, "PATH": PATH, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
               "PYTHONFAULTHANDLER": "1",
               "PYTEST_XDIST_WORKER": "a rank",  # so that conftest keeps this process's cache of kernels
               # MPICH's ranks that wait let others run
               "MPIR_CVAR_POLLS_BEFORE_YIELD": "20", "MPIR_CVAR_ENABLE_HEAVY_YIELD": "1",
               "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",  # Open MPI's, in containers
               "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}


def mpirun(size, *arguments, check=True):
    """Run a program on so many ranks, with warnings as errors."""
    ran = subprocess.run([MPIRUN, "-n", str(size), sys.executable, "-W", "error", "-m", "mpi4py", *arguments],
                         env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600)
    assert ran.returncode == 0 or not check, ran.stdout + ran.stderr
    return ran


def ranks(size, folder, *cases, check=True):
    """Run cases of tests/sharded.py on so many ranks."""
    ran = mpirun(size, TESTS/"sharded.py", folder, *cases, check=check)
    assert ran.stdout.count("done") == size*check
    return ran


@needs_ranks
def test_any_number_of_ranks_gives_the_bits_of_one_machine(tmp_path):
    """Each run loads the checkpoints of the one before."""
    for size in (1, 4, 2):
        ranks(size, tmp_path, "bits", "other_rules", "working_copies", "skipped", "absent", "clipped",
              "changed", "apart", "measured", "measured_of_others", "logged", "interrupted", "trained",
              "interrupted_training", "converted", "errors", *(["guide"] if size == 1 else []))
        for path in tmp_path.glob("*.safetensors"):
            path.rename(path.with_name(f"before {path.name.removeprefix('before ')}"))
    assert len(list(tmp_path.iterdir())) == 18


@needs_ranks
def test_a_save_that_fails_leaves_what_was_there(tmp_path):
    ranks(2, tmp_path, "full")


@needs_ranks
@pytest.mark.parametrize("when", ["gathering", "writing", "stepping"])
def test_a_rank_that_dies_leaves_a_checkpoint(tmp_path, when):
    assert ranks(3, tmp_path, f"dies_{when}", check=False).returncode != 0
    with safetensors.safe_open(tmp_path/"safe.safetensors", "np") as file:
        shapes = {name: file.get_tensor(f"params['{name}']").shape for name in ("W", "b", "V", "none", "c")}
    opt = fastopt.Adam({name: np.asfortranarray(np.zeros(shape, np.float32)) for name, shape in shapes.items()})
    fastopt.files.load(tmp_path/"safe.safetensors", opt)
    assert opt.t == 1


@needs_ranks
def test_the_network_of_digits():
    out = mpirun(4, TESTS.parent/"examples"/"digits_mpi.py", "--epochs", "20").stdout
    kept = re.findall(r"rank (\d): parameters 203 kB, gradients 203 kB, state (\d+) of 407 kB", out)
    assert [int(rank) for rank, _ in kept] == [0, 1, 2, 3]
    assert all(90 < int(state) < 115 for _, state in kept)
    assert 97 < float(re.search(r"test accuracy ([\d.]+)%", out)[1]) <= 100


def test_sums_in_parts_are_exact():
    """Of numbers of all sizes, wherever they are cut, and of what is not finite."""
    rng = np.random.default_rng(0)
    sums = np.exp(rng.uniform(-700, 300, 3000)).tolist()
    for cut in (0, 1, 1500, 3000):
        parts = [exact(sums[:cut]), exact(sums[cut:])]
        assert sum(map(len, parts)) < 100
        assert math.fsum(parts[0] + parts[1]) == math.fsum(sums)
    assert exact([1.0, math.inf, 2.0]) == exact([1.7e308]*2) == [math.inf]
    assert math.isnan(*exact([1.0, math.nan]))


MISSING = """
import sys, types, numpy
how, name = sys.argv[1:]
class Broken:
    def find_spec(self, found, *_):
        if found == "mpi4py.MPI" and how == "library":
            raise RuntimeError("cannot load MPI library")
sys.meta_path.insert(0, Broken())
if how == "package":
    sys.modules["mpi4py"] = None
import fastopt
try:
    fastopt.mpi
except ImportError as error:
    assert name in str(error), error
else:
    sys.exit("no error")
"""


@pytest.mark.parametrize(("how", "cure"), [("package", 'pip install "fastopt[mpi]"'), ("library", "pip install mpich")])
def test_what_is_missing_is_named(how, cure):
    subprocess.run([sys.executable, "-c", MISSING, how, cure], env=ENVIRONMENT, check=True)
