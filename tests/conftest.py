"""Settings for every test: no deadline, since machines are busy; in CI, the same examples are drawn each time.

One thread of the matrix libraries a process, as in the workers of the command line: a test's products are small, and
the threads of several processes wait for each other. It is set before NumPy is imported, and for what xdist starts.
"""

from __future__ import annotations

import os

from hypothesis import settings

from triptych.harness.one_thread import ONE_THREAD

os.environ.update({name: one for name, one in ONE_THREAD.items() if name not in os.environ})
os.environ["TRIPTYCH_CACHE"] = "off"  # a test computes what it tests

settings.register_profile("patient", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "patient")
