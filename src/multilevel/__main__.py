"""``python -m multilevel`` is the command line."""

from multilevel.cli.main import main

raise SystemExit(main())
