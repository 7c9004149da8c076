"""Settings for every test: no deadline, since machines are busy; in CI, the same examples are drawn each time."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "patient")
