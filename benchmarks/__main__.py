"""``python -m benchmarks``."""

import signal
import sys

from benchmarks.cli import main

if __name__ == "__main__":
    # Ended from outside, it still removes its server, files and objects.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
