"""Where arrays lie, and the modules that work there, which are loaded when the first array of a place comes."""
from functools import cache
from pkgutil import resolve_name
from typing import Any

PACKAGE = __name__.partition(".")[0]
PLACES = {"cpu": {"backend": "_cpu.backend:HostBackend"},
          "cuda": {"backend": "_cuda.backend:CudaBackend", "driver": "_cuda.driver", "libraries": "_cuda.libraries"}}


@cache
def at(place: str, what: str) -> Any:
    """A backend, or another part of a place's package."""
    return resolve_name(f"{PACKAGE}.{PLACES[place][what]}")
