"""Optional packages: what to say where one is missing."""


def missing(where: str, error: ImportError, extra: str) -> ImportError:
    """The error to raise from an ImportError: what was missing, and the extra of fastopt that installs it."""
    return ImportError(f'{where}: {error}. Install it with: pip install "fastopt[{extra}]"', name=error.name)
