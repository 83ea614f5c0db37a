"""``python -m fastopt``: the command ``fastopt``."""
import sys

from .bench.cli import main

sys.exit(main())
