"""What kernels of one's own need on CUDA beside `fastopt.rules`: numba-cuda's registries, also with NumPy 2.5."""
from ._cuda.code import import_registries

__all__ = ["import_registries"]
