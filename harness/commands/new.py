"""`triptych new OP`: a complete kernel file of your own, which passes as written; `--from` declares one that exists.

The template is a real Python file beside this one, so that it is linted and tested like any other.
"""

from __future__ import annotations

import inspect
import keyword
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from triptych.harness.commands.declaring.reading import Signature, read
from triptych.harness.commands.declaring.writing import MARK, declaration
from triptych.harness.errors import UsageError
from triptych.harness.exit_codes import ExitCode
from triptych.harness.ops.loading import OpFileError, module_of, split_function

TEMPLATE = Path(__file__).with_name("new_template.py")
TAKEN = ("nki", "triton", "numpy", "torch", "triptych", "ml_dtypes", "neuronxcc")


def run(arguments: Namespace) -> int:
    """Write a file into the current folder; never over one that is there."""
    if arguments.kernel:
        return declare(arguments.kernel, arguments.name)
    if not arguments.name:
        raise UsageError("new takes the name of an op, as row_softmax, or --from PATH:FUNCTION.")
    name = checked(arguments.name.removesuffix(".py"))
    path = Path(f"{name}.py")
    write(path, source(name))
    print(f"wrote {path}: a softmax in three panels, to make yours\n\n    triptych check --kernel {path}")
    return ExitCode.OK


def checked(name: str) -> str:
    """A name that an op and its file can have."""
    if keyword.iskeyword(name):
        raise UsageError(f"{name!r} is a word of Python's own; choose another name, as row_softmax.")
    if not name.isidentifier():
        raise UsageError(f"{name!r} is no Python identifier; name the op as a function, as in row_softmax.")
    if name in TAKEN or name in sys.stdlib_module_names:
        raise UsageError(
            f"a file {name}.py would hide the module {name!r} from whatever imports it; choose another name."
        )
    return name


def write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise UsageError(f"{path} is there already; it was left as it is.") from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}.") from error


def source(name: str) -> str:
    """The template for an op called `name`, without the line that is for our own type checker."""
    _, text = TEMPLATE.read_text(encoding="utf-8").split("\n", 1)
    return text.replace("OP_NAME", name)


def declare(kernel: str, name: str | None) -> int:
    """Write the declaration of an NKI kernel, or of a function that launches Triton kernels."""
    file, function = split_function(kernel)
    if function is None:
        raise UsageError(f"--from takes PATH:FUNCTION, as kernels.py:rmsnorm; got {kernel!r}.")
    found = signature_of(Path(file), function)
    path = Path(f"{checked(name.removesuffix('.py') if name else f'{function}_op')}.py")
    text = declaration(found, f"{os.path.relpath(file)}:{function}")
    write(path, text)
    waiting = sum(line.endswith(MARK) for line in text.splitlines())
    print(f"wrote {path}: {waiting} lines that end in `#{MARK[-2:]}` wait for you\n\n    triptych check {path}")
    return ExitCode.OK


def signature_of(path: Path, function: str) -> Signature:
    """What the file at `path` says of a kernel."""
    try:
        module = module_of(path.resolve())
    except OpFileError as error:
        raise UsageError(f"{error}.") from None
    members = vars(module)
    value: Any = members.get(function)
    language = language_of(value)
    if language is None:
        known = [name for name, other in members.items() if language_of(other) and is_own(other, path)]
        what = "is a Triton kernel; name the function that launches it" if is_triton(value) else "is no kernel there"
        raise UsageError(f"{path} has {', '.join(known) or 'no kernel'}: {function} {what}.")
    try:
        return read(function, value, language, members)
    except (OSError, SyntaxError, TypeError, ValueError) as error:
        raise UsageError(f"the source of {function} cannot be read: {error}.") from error


def language_of(value: Any) -> str | None:
    """What a member of a module is: an NKI kernel, a function that may launch Triton kernels, or neither."""
    from triptych.simulator import Kernel

    if isinstance(value, Kernel):
        return "nki"
    return "triton" if inspect.isfunction(value) else None


def is_triton(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "triton"


def is_own(value: Any, path: Path) -> bool:
    """Whether a function is written in the file."""
    code = getattr(getattr(value, "function", value), "__code__", None)
    return code is not None and Path(code.co_filename) == path.resolve()
