"""Ops from a user's file, and kernel files as modules."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import types
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np

from triptych.harness.ops.op import Op

under_way: list[Path] = []  # the files whose ops are being loaded
needed: dict[str, dict[str, None]] = {}  # by a file of ops: the others that it takes ops from, and all kernels' files
GPU_IS_MISSING = re.compile(r"not compiled with CUDA|No CUDA GPUs|NVIDIA driver|active drivers")
pretending: Callable[[], AbstractContextManager[object]] = nullcontext  # that there is a GPU; `backends` says how


class OpFileError(Exception):
    """A user's file does not declare an op; its text is one sentence."""


def from_file(path: str | Path) -> dict[str, Op]:
    """Every `triptych.Op` that the file at `path` holds at module level, or in a list there, by name."""
    path = Path(path).resolve()
    return ops_in(module_of(path), path)


def module_of(path: Path) -> types.ModuleType:
    """A user's file, executed once, so that its `import nki` means the simulator even where AWS's is installed."""
    if not path.is_file():
        raise OpFileError(f"{path} is not a file; `triptych new` writes one")
    under_way.append(path)
    try:
        with np.errstate(), warnings.catch_warnings():  # what the file sets is not for the judge
            return load_simulated(path)
    except (Exception, SystemExit) as error:
        raise OpFileError(
            f"{path.name} could not be loaded: {type(error).__name__}: {error}{at(error, path)}"
        ) from error
    finally:
        under_way.pop()


def ops_in(module: types.ModuleType, path: Path) -> dict[str, Op]:
    """The ops that the module of the file at `path` declares, by name; their kernels as "path/to/file.py:function"."""
    ops: dict[str, Op] = {}
    for op in dict.fromkeys(ops_among(vars(module).values())):
        if op.name in ops:
            raise OpFileError(f"{path.name} declares two ops called {op.name!r}")
        ops[op.name] = replace(op, nki=_reference(op.nki, module, path), triton=_reference(op.triton, module, path))
        for whose in (path, *under_way):
            kernels = (kernel for kernel in (ops[op.name].nki, ops[op.name].triton) if isinstance(kernel, str))
            found = [str(path), *(kernel.rpartition(":")[0] for kernel in kernels)]
            needed.setdefault(str(whose), {}).update(dict.fromkeys(found))
    if not ops:
        raise OpFileError(
            f"{path.name} declares no op: it needs a module-level `triptych.Op`, as `triptych new` writes one"
        )
    return ops


def ops_among(values: Iterable[Any]) -> Iterator[Op]:
    """The ops among `values`, and in lists, tuples and dicts among them."""
    for value in values:
        if isinstance(value, Op):
            yield value
        elif isinstance(value, (list, tuple, dict)):
            inner = value.values() if isinstance(value, dict) else value
            yield from (op for op in inner if isinstance(op, Op))


def _reference(kernel: Any, module: types.ModuleType, path: Path) -> str | None:
    """`kernel`, a string or a function of `module`, as "absolute/path.py:function"."""
    if kernel is None:
        return None
    if isinstance(kernel, str):
        return absolute(kernel, path)
    function, grid = launched(kernel)
    for name, value in vars(module).items():
        if value is kernel:
            return f"{path}:{name}"
        if grid and launched(value)[0] is function:
            return f"{path}:{name}{grid}"
    name = getattr(kernel, "__name__", repr(kernel))
    code = getattr(function, "__code__", None)
    if (
        code is not None and launched(function.__globals__.get(name))[0] is function
    ):  # of a module that the file imports
        return f"{code.co_filename}:{name}{grid}"
    raise OpFileError(
        f"{path.name}: the kernel {name} of an op is under no name of this file, where a later definition may have "
        'taken its own; give it one, or name that of another file as "path/to/file.py:function"'
    )


def launched(kernel: Any) -> tuple[Any, str]:
    """The function of an NKI kernel, and "[2]" if it is launched on two cores; anything else as it is."""
    function = getattr(kernel, "function", None)
    if function is None:
        return kernel, ""
    cores = getattr(kernel, "cores", None)
    return function, "" if cores in (None, 1) else f"[{cores}]"


def absolute(kernel: str, path: Path) -> str:
    """ "kernels/mine.py:function", of an op that the file at `path` declares, with the whole path; it must be there."""
    file, colon, function = kernel.rpartition(":")
    if colon and not (path.parent / file).is_file():
        raise OpFileError(f"{path.name} names the kernel {kernel!r}, and there is no file {path.parent / file}")
    return f"{path.parent / file if colon else path}:{function}"


def split_function(path: str) -> tuple[str, str | None]:
    """`PATH:function` as (path, function); a file whose name has a colon is a path."""
    file, colon, function = path.rpartition(":")
    named = bool(colon) and function.isidentifier() and not Path(path).exists()
    return (file, function) if named else (path, None)


def at(error: BaseException, path: Path) -> str:
    """Where in `path` an error was raised, as " (file.py:12)"; empty if it was elsewhere."""
    if isinstance(error, SyntaxError):
        return ""
    line = None
    traceback = error.__traceback__
    while traceback is not None:
        if Path(traceback.tb_frame.f_code.co_filename) == path:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return f" ({path.name}:{line})" if line else ""


def load_simulated(path: Path) -> types.ModuleType:
    """The file as a module whose `nki` is the simulator's, whatever else is installed."""
    from triptych import simulator

    with at_home(path):
        return executed(lambda: simulator.load(path, package_of(path)[1]))


def executed(load: Callable[[], types.ModuleType]) -> types.ModuleType:
    """The module that `load` makes; once more as on a GPU, if what it imports asks for one and there is none."""
    try:
        return load()
    except Exception as error:
        if not GPU_IS_MISSING.search(str(error)):
            raise
    with pretending():
        return load()


def package_of(path: Path) -> tuple[Path, str]:
    """The folder that holds the package of a file, and the package's dotted name; its own folder and "" outside one."""
    top, names = path.parent, []
    while (top / "__init__.py").is_file() and top != top.parent:
        names.append(top.name)
        top = top.parent
    return top, ".".join(reversed(names))


@contextmanager
def at_home(path: Path) -> Iterator[None]:
    """Imports within find what `python FILE` finds: modules beside the file, and those of the package that it is in.

    Python's path and its modules are afterwards as before, so that two folders may have a `utils.py` each. What a
    folder's files have imported of it is kept for the next time. They are executed as they stand, not from bytecode.
    """
    home, top = path.parent, package_of(path)[0]
    mine = _modules_of.setdefault(str(home), {})
    path_before, modules_before = sys.path[:], dict(sys.modules)
    sys.path[:0] = [str(home), str(top)]
    local = {name for folder in {home, top} for name in _modules_in(folder)}
    for name, module in modules_before.items():
        if name.partition(".")[0] in local and not _lies_in(module, top):
            del sys.modules[name]
    sys.modules.update(mine)
    if not mine:
        importlib.invalidate_caches()
    try:
        with _from_source(str(top), local):
            yield
    finally:
        mine.update({n: m for n, m in sys.modules.items() if modules_before.get(n) is not m and _lies_in(m, top)})
        for name in mine:
            sys.modules.pop(name, None)
        sys.modules.update({n: m for n, m in modules_before.items() if n not in sys.modules})
        sys.path[:] = path_before


@contextmanager
def _from_source(top: str, local: Set[str]) -> Iterator[None]:
    """Imports within take the modules of folder `top` that `local` names, and all of such packages, from source."""
    from triptych.simulator.launch.import_hook import FromSource

    def is_one(folder: str) -> bool:
        below = folder.removeprefix(f"{top}{os.sep}")
        return folder == top or below != folder and below.partition(os.sep)[0] in local

    def hook(folder: str) -> FileFinder:
        if not is_one(folder):
            raise ImportError  # as Python asks the next hook
        return FileFinder(folder, (ExtensionFileLoader, EXTENSION_SUFFIXES), (FromSource, SOURCE_SUFFIXES))

    def forget() -> None:
        for folder in [folder for folder in sys.path_importer_cache if is_one(folder)]:
            del sys.path_importer_cache[folder]

    sys.path_hooks.insert(0, hook)
    forget()
    try:
        yield
    finally:
        sys.path_hooks.remove(hook)
        forget()


_modules_of: dict[str, dict[str, types.ModuleType]] = {}  # by folder: what its files have imported of it


def _modules_in(folder: Path) -> Iterator[str]:
    """The names by which Python finds files and packages of a folder, but for those that it finds elsewhere first."""
    for entry in os.scandir(folder):
        name, dot, ending = entry.name.partition(".")
        found = ending == "py" if dot else os.path.isfile(os.path.join(entry.path, "__init__.py"))
        if found and name not in sys.stdlib_module_names:
            yield name


def _lies_in(module: types.ModuleType, folder: Path) -> bool:
    """Whether a module is a file of `folder` or below, and none that is installed there."""
    file = str(getattr(module, "__file__", None) or "")
    return file.startswith(f"{folder}{os.sep}") and "site-packages" not in file


def load(path: Path) -> types.ModuleType:
    """The file as a module of its own, executed once per process; its `nki` is whichever Python finds."""
    from triptych.simulator.launch import import_hook

    name = f"triptych_file_{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    package = package_of(path)[1]
    name = f"{package}.{name}" if package else name
    if name not in sys.modules:
        spec = import_hook.source_spec(name, path)
        with at_home(path):
            module = executed(lambda: _executed_as(name, spec))
        sys.modules[name] = module  # it is at home nowhere else
    return sys.modules[name]


def _executed_as(name: str, spec: ModuleSpec) -> types.ModuleType:
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
