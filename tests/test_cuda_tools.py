"""The tools behind CUDA's kernels: which version made them, and what is said where they do not go together. No GPU."""
import os
import re
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from cuda.bindings import nvjitlink
from devices import process
from emulation import step_code

import fastopt
from fastopt._cuda import code as cuda_code


@pytest.fixture
def toolkit(monkeypatch, tmp_path):
    """NVIDIA's libraries of a system's toolkit: no packages, but files."""
    from cuda import pathfinder
    version = cuda_code._version
    files = {name: tmp_path/f"lib{name}.so" for name in ("nvvm", "nvJitLink")}
    for path in files.values():
        path.write_bytes(b"x")
    monkeypatch.setattr(cuda_code, "_version", lambda name: None if name in cuda_code.TOOLS else version(name))
    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib",
                        lambda name: type("Loaded", (), {"abs_path": str(files[name])}))
    cuda_code.versions.cache_clear()
    yield files
    cuda_code.versions.cache_clear()


@pytest.mark.parametrize("name", ["nvvm", "nvJitLink"])
def test_kernels_are_made_anew_when_a_toolkit_changes(name, toolkit):
    """Path, size and time of the library that is loaded are part of the key."""
    found = {cuda_code.versions()}
    for change in (lambda path: path.write_bytes(b"xy"), lambda path: os.utime(path, ns=(1, 1)),
                   lambda path: os.utime(path, ns=(1, 2)),
                   lambda path: toolkit.update({name: path.rename(path.with_name("other.so"))})):
        change(toolkit[name])
        cuda_code.versions.cache_clear()
        found.add(cuda_code.versions())
    assert len(found) == 5
    assert not any("None" in " ".join(versions) for versions in found)


def test_a_library_that_is_missing_is_named(toolkit, monkeypatch):
    from cuda import pathfinder

    def missing(name):
        raise pathfinder.DynamicLibNotFoundError(f"Failure finding {name}\nin many places")
    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", missing)
    with pytest.raises(ImportError, match=r"nvvm was not found .* Install the extra: pip install"):
        cuda_code.versions()


@pytest.mark.parametrize(("status", "kind", "message"), [
    (14, ImportError, r"is older than the compiler NVVM.* Install both of one version: pip install"),
    (16, ImportError, r"makes no code for compute capability 9\.0\. Install a newer one: pip install"),
    (6, RuntimeError, r"refused a kernel: ERROR_INTERNAL \(6\)\. Report this with the versions numba 0")])
def test_a_linker_that_refuses(status, kind, message, fresh, monkeypatch):
    """Whatever architecture it is asked for."""
    def create(*_):
        raise nvjitlink.nvJitLinkError(status)
    monkeypatch.setattr(nvjitlink, "create", create)
    with pytest.raises(kind, match=rf"CUDA arrays: nvJitLink \d+\.\d+ {message}"):
        step_code(fastopt.rules.sgd, "f32 f32", (9, 0), "cubin")


def test_what_the_linker_says_is_told():
    """Its own words, of what it really refuses."""
    said = r"nvJitLink \d+\.\d+ refused a kernel: ERROR_\w+ \(\d+\) \(.*kernel.*\)\. Report"
    with pytest.raises(RuntimeError, match=said):
        cuda_code.link(b"no code", (9, 0))


def test_a_linker_that_lacks_a_function(fresh, monkeypatch):
    """Of a toolkit that is older than the bindings."""
    from cuda.bindings._internal.utils import FunctionNotFoundError

    def create(*_):
        raise FunctionNotFoundError("function nvJitLinkCreate is not found")
    monkeypatch.setattr(nvjitlink, "create", create)
    said = r"older than cuda-bindings, .* \(function nvJitLinkCreate is not found\)\. Install a newer one: pip"
    with pytest.raises(ImportError, match=said):
        step_code(fastopt.rules.sgd, "f32 f32", (9, 0), "cubin")


def test_a_toolkit_without_libdevice(fresh, monkeypatch):
    cuda_code.import_registries()
    from numba.cuda.cudadrv import nvvm
    monkeypatch.setattr(nvvm, "get_libdevice", lambda: None)
    monkeypatch.setattr(nvvm.LibDevice, "_cache_", None)
    with pytest.raises(ImportError, match=r"libdevice was not found\. Install the extra, or let CUDA_PATH name a tool"):
        step_code(fastopt.rules.sgd, "f32 f32", (9, 0), "cubin")


def test_a_device_that_is_too_old(fresh):
    with pytest.raises(ImportError, match=r"capability 5\.2, but .* code for 7\.5 and newer\. Use a newer device, or "):
        step_code(fastopt.rules.sgd, "f32 f32", (5, 2), "cubin")


def test_the_inside_of_numba_cuda_is_known_to_one_file():
    """What its next version may change."""
    private = re.compile(r"(?:from|import)\s+(numba\.cuda\.\S+)|import_module\(\"(numba\.cuda\.\S+)\"")
    home = Path(fastopt.__file__).parent
    found = {str(path.relative_to(home)): {a or b for a, b in private.findall(path.read_text())}
             for path in home.rglob("*.py")}
    assert {name: names for name, names in found.items() if names} == {"_cuda/code.py": {
        "numba.cuda.cudaimpl", "numba.cuda.dispatcher", "numba.cuda.core.compiler_lock"}}


def test_rounding_is_written_into_every_instruction():
    """What makes machine code of PTX may contract products and sums that leave their rounding open; ours do not."""
    for formats in ("f64 f64 f64 f64", "bf16 bf16 f32 f32"):
        code = step_code(fastopt.rules.nadam, formats).image.decode()
        operations = re.findall(r"\b((?:add|sub|mul|fma|mad|div|sqrt)\.\S*f(?:32|64))\s", code)
        assert operations
        assert not [op for op in operations if ".rn." not in op or op.startswith(("fma", "mad"))]


def test_a_chip_that_the_linker_does_not_know(tmp_path):
    """The driver gets PTX of the newest one that it knows; same bits."""
    assert process("""
        import re, numpy as np, fastopt
        from ptx import driver as loader
        loader.load(cc=(13, 1))
        import devices
        from emulation import step_code
        image = step_code(fastopt.rules.sgd, "f32 f32", (13, 1), "cubin").image
        newest = max(devices.cuda_code._known())
        array, g = (devices.plain(np.linspace(1, 2, 50, dtype=np.float32)) for _ in range(2))
        fastopt.SGD(array, lr=0.5).step(g)
        print(re.search(rb"\\.target\\s+sm_(\\d+)", image)[1].decode() == f"{newest[0]}{newest[1]}",
              np.array_equal(array.copy_to_host(), 0.5*g.copy_to_host()))
    """, FASTOPT_CACHE=str(tmp_path)) == "True True"


def test_a_driver_that_is_older_than_the_linker(tmp_path):
    """It cannot read PTX of a newer version than its own."""
    if nvjitlink.version() <= (13, 0):
        pytest.skip("the linker is as old as the oldest driver that is taken")
    assert process("""
        import numpy as np, fastopt
        import devices
        devices.load().speak(13000)
        p = devices.plain(np.ones(5, np.float32))
        try:
            fastopt.SGD(p).step(p)
        except RuntimeError as error:
            print(error)
    """, FASTOPT_CACHE=str(tmp_path)).endswith("Update NVIDIA's driver, or install nvidia-nvjitlink and nvidia-nvvm of "
                                               'its version of CUDA ("fastopt info" shows all three).')


def test_numpy_without_row_stack(tmp_path):
    """As NumPy 2.5 is, which also warns of what numba-cuda does when it is imported. Kernels are the same, also where
    warnings are errors, and NumPy is left as it was."""
    program = """
        import sys, numpy as np, hashlib, warnings

        class Warns:
            def find_spec(self, name, path=None, target=None):
                if name == "numba.cuda.np.npdatetime_helpers":
                    warnings.warn("The 'generic' unit for NumPy timedelta is deprecated", DeprecationWarning)
        if sys.argv[1] == "without":
            warnings.simplefilter("error")
            sys.meta_path.insert(0, Warns())
            if hasattr(np, "row_stack"):
                del np.row_stack
                np.__all__.remove("row_stack")
        before = hasattr(np, "row_stack")
        import fastopt
        from emulation import step_code
        print(hashlib.sha256(step_code(fastopt.rules.sgd, "f32 f32", (9, 0)).image).hexdigest())
        print(before == hasattr(np, "row_stack"))
    """
    found = [process(program, how, FASTOPT_CACHE=str(tmp_path/how)).split() for how in ("with", "without")]
    assert found[0] == found[1]
    assert found[0][1] == "True"
