"""What CUDA kernels of your own need beside `fastopt.rules` if NumPy is 2.5: numba-cuda's registries."""
from ._cuda.code import import_registries

__all__ = ["import_registries"]
