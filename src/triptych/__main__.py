"""`python -m triptych`, where the command `triptych` is not on the path."""

from triptych.harness.commands.cli import main

raise SystemExit(main())
