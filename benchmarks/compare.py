"""The harness: `fastopt/bench/interleave.py` of this checkout, whatever version is measured, and without the rest of the package."""
import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("interleave", Path(__file__).resolve().parents[1]/"fastopt"/"bench"/"interleave.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
Clock, seconds, batch, quartets, medians, interval = (_module.Clock, _module.seconds, _module.batch, _module.quartets, _module.medians,
                                                      _module.interval)
