"""`triptych new OP`: a complete kernel file of your own, which passes as written.

The template is a real Python file beside this one, so that it is linted and tested like any other.
"""

from __future__ import annotations

import keyword
import sys
from argparse import Namespace
from pathlib import Path

from triptych.harness.errors import UsageError
from triptych.harness.exit_codes import ExitCode

TEMPLATE = Path(__file__).with_name("new_template.py")
TAKEN = ("nki", "triton", "numpy", "torch", "triptych", "ml_dtypes", "neuronxcc")


def run(arguments: Namespace) -> int:
    """Write OP.py into the current folder; never over a file that is there."""
    name = arguments.name.removesuffix(".py")
    if keyword.iskeyword(name):
        raise UsageError(f"{name!r} is a word of Python's own; choose another name, as row_softmax.")
    if not name.isidentifier():
        raise UsageError(f"{name!r} is no Python identifier; name the op as a function, as in row_softmax.")
    if name in TAKEN or name in sys.stdlib_module_names:
        raise UsageError(
            f"a file {name}.py would hide the module {name!r} from whatever imports it; choose another name."
        )
    path = Path(f"{name}.py")
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(source(name))
    except FileExistsError:
        raise UsageError(f"{path} is there already; it was left as it is.") from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}.") from error
    print(f"wrote {path}: a softmax in three panels, to make yours\n\n    triptych check --kernel {path}")
    return ExitCode.OK


def source(name: str) -> str:
    """The template for an op called `name`, without the line that is for our own type checker."""
    _, text = TEMPLATE.read_text(encoding="utf-8").split("\n", 1)
    return text.replace("OP_NAME", name)
