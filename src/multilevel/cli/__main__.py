"""``python -m multilevel.cli`` is the same as ``multilevel``."""

from __future__ import annotations

import sys

from multilevel.cli.main import main

sys.exit(main())
