"""The part of the package that a C compiler makes faster: without one, all of it is Python, with the same results."""

import platform
import sys
import sysconfig

from setuptools import Extension, setup

# Free-threaded builds of Python would take their lock back for it.
has_lock = not sysconfig.get_config_var("Py_GIL_DISABLED")
# Loops over elements for the registers that hold several, as not every Python asks for; and the clock adds floats as
# Python does, so no two operations may become one. What a Python's headers lack must not be guessed.
FLAGS = ["-O3", "-ffp-contract=off", "-fvisibility=hidden", "-Werror=implicit-function-declaration"]
FLAGS = [] if sys.platform == "win32" else FLAGS
ROOM = "simulator.compiled"
FILES = {
    "frequent": (
        "frequent",
        "slices",
        "contents",
        "moves",
        "matrices",
        "allocations",
        "keys",
        "instructions",
        "drivers",
    ),
    "walks": ("walks", "hazards", "places"),
    "clock": ("clock",),
    "casts": ("casts",),
}
HEADERS = ("frequent", "walks")
compiled = [
    Extension(
        f"triptych.{ROOM}.{name}",
        [f"{ROOM.replace('.', '/')}/{file}.c" for file in files],
        depends=[f"{ROOM.replace('.', '/')}/{name}.h"] if name in HEADERS else [],
        extra_compile_args=FLAGS,
        optional=True,
    )
    for name, files in FILES.items()
]
setup(ext_modules=compiled if has_lock and platform.python_implementation() == "CPython" else [])
