"""The harness: `fastopt/bench/interleave.py` of this checkout, whatever version is measured, and nothing else of it."""
import importlib.util
from pathlib import Path

_path = Path(__file__).resolve().parents[2]/"fastopt"/"bench"/"interleave.py"
_spec = importlib.util.spec_from_file_location("interleave", _path)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
Clock, Pairs, seconds, batch = _module.Clock, _module.Pairs, _module.seconds, _module.batch
quartets, medians, interval = _module.quartets, _module.medians, _module.interval
