"""The versions of NKI that the simulator knows, as the command line offers them without importing it."""

from __future__ import annotations

VERSIONS = ("0.7", "0.6", "0.3")  # the newest first; a test compares them with the simulator's
VARIABLE = "TRIPTYCH_NKI"  # by which a command and its workers say which one they run with
