"""The versions of Numba with which the tests run. An older one is not installed with fastopt, a newer one may work."""
import re

import numba

from .warning import warn

OLDEST, NEWEST = (0, 67), (0, 68)  # minor versions; pyproject.toml has the oldest


def warn_of_newer(version: str = numba.__version__) -> None:
    """Warn of a version of Numba that is newer than those that were tested."""
    if tuple(map(int, re.findall(r"\d+", version)[:2])) > NEWEST:
        newest = "{}.{}".format(*NEWEST)
        warn(f"fastopt: Numba {version} was found, newer than {newest}, the newest that was tested. If a step fails or "
             f'a result is in doubt, go back: pip install "numba=={newest}.*"')
