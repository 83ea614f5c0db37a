"""Where arrays lie, and the modules that work there. They are named here and loaded when the first array of a place comes."""
from functools import cache
from pkgutil import resolve_name
from typing import Any

PLACES = {
    "cpu": {"backend": "fastopt._cpu.backend:HostBackend"},
    "cuda": {"backend": "fastopt._cuda.backend:CudaBackend", "driver": "fastopt._cuda.driver",
             "libraries": "fastopt._cuda.libraries"}}


@cache
def at(place: str, what: str) -> Any:
    """A backend, or another part of a place's package."""
    return resolve_name(PLACES[place][what])
