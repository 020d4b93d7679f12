"""``python -m pydbi``."""

from __future__ import annotations

import sys

from pydbi.cli import main

if __name__ == "__main__":
    sys.exit(main())
