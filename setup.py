"""The part of the package that a C compiler makes faster: without one, all of it is Python, with the same results."""

import platform
import sysconfig

from setuptools import Extension, setup

# Free-threaded builds of Python would take their lock back for it.
has_lock = not sysconfig.get_config_var("Py_GIL_DISABLED")
frequent = Extension("triptych.simulator.compiled.frequent", ["simulator/compiled/frequent.c"], optional=True)
setup(ext_modules=[frequent] if has_lock and platform.python_implementation() == "CPython" else [])
