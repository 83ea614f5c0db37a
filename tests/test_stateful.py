"""Random walks beside the rule on NumPy arrays: see walk.py."""
import subprocess
import sys
from pathlib import Path


def test_walks():
    done = subprocess.run([sys.executable, "-W", "error", str(Path(__file__).with_name("walk.py"))],
                          capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stdout) == (0, "walked\n"), done.stdout[-6000:] + done.stderr[-6000:]
