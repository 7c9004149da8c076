"""What travels to a node: a user's files with the modules beside them, by the hash of their content.

A file is sent with what `python FILE` could import from its folder and, of a package, from the folder that holds it:
the Python files there, and the packages. What lies elsewhere, and data, does not travel. Files that belong to triptych
are on every node, of the same version.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from triptych.harness.ops import loading
from triptych.harness.ops.loading import package_of
from triptych.harness.ops.op import Op

PACKAGE = Path(__file__).resolve().parents[2]
OURS = tuple(PACKAGE / name for name in ("harness", "simulator", "reference", "kernels"))


@dataclass(frozen=True)
class Luggage:
    """Files by their place below `root`, the folder here that they share."""

    root: str
    files: Mapping[str, bytes]

    @cached_property
    def digest(self) -> str:
        """Of the names and contents, as 32 hexadecimal digits; not of where they lie here."""
        digest = hashlib.sha256()
        for name in sorted(self.files):
            for part in (name.encode(), self.files[name]):
                digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()[:32]

    def place(self, path: str) -> str:
        """The place of one of the files, with which `unpacked` finds it."""
        return Path(os.path.realpath(path)).relative_to(self.root).as_posix()


def packed(paths: Iterable[Path]) -> Luggage:
    """Some files, each with what it may import from beside it."""
    found: dict[Path, bytes] = {}
    for path in map(Path.resolve, paths):
        found[path] = path.read_bytes()
        for file in neighbours(path):
            with contextlib.suppress(OSError):  # what cannot be read here cannot be imported either
                found[file] = file.read_bytes()
    root = Path(os.path.commonpath([file.parent for file in found])) if found else Path("/")
    return Luggage(str(root), {file.relative_to(root).as_posix(): found[file] for file in sorted(found)})


def files_of(sources: Iterable[str], ops: Iterable[Op]) -> list[Path]:
    """The files that declare ops, and unless triptych has them those that they take ops from and of all kernels."""
    declaring = [os.path.realpath(source) for source in sources]
    named = [kernel.rpartition(":")[0] for op in ops for kernel in (op.nki, op.triton) if isinstance(kernel, str)]
    named += [path for source in declaring for path in loading.needed.get(source, ())]
    beside = [path for path in map(Path, map(os.path.realpath, named)) if path.is_file()]
    return list(
        dict.fromkeys([*map(Path, declaring), *(path for path in beside if not any(map(path.is_relative_to, OURS)))])
    )


def neighbours(path: Path) -> Iterator[Path]:
    """The Python files that imports of a file find in its folder and in the one that holds its package."""
    for folder in {path.parent, package_of(path)[0]}:
        for entry in os.scandir(folder):
            if entry.is_file() and entry.name.endswith(".py"):
                yield Path(entry.path)
            elif entry.is_dir() and os.path.isfile(os.path.join(entry.path, "__init__.py")):
                yield from modules_below(entry.path)


def modules_below(folder: str) -> Iterator[Path]:
    """The Python files of a package, those behind links too, but for links that lead back."""
    home = Path(folder).parent.resolve()
    entered = {home, *home.parents}
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := Path(place).resolve()) in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        yield from (Path(place, name) for name in sorted(names) if name.endswith(".py"))


def unpacked(luggage: Luggage, under: Path | None = None) -> Path:
    """The folder of this digest on this machine, with the files as they were sent; made unless it is there and whole.

    under: where such folders lie; by default a folder of this user alone, below that for temporary files
    """
    home = private_folder() if under is None else under
    folder = home / luggage.digest
    if _is_whole(folder, luggage):
        return folder
    made = Path(tempfile.mkdtemp(prefix=f".{luggage.digest}.", dir=home))
    for name, content in luggage.files.items():
        file = made / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    for _ in range(3):  # at most: another worker's, or one that was changed since, may be in the way
        with contextlib.suppress(OSError):
            os.rename(made, folder)
        if _is_whole(folder, luggage):
            shutil.rmtree(made, ignore_errors=True)
            return folder
        with contextlib.suppress(OSError):
            os.rename(folder, tempfile.mkdtemp(prefix=".old.", dir=home))
    return made


def private_folder() -> Path:
    """A folder that nobody else can write into."""
    who = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    folder = Path(tempfile.gettempdir()) / f"triptych-files-{who}"
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if hasattr(os, "getuid") and (about.st_uid != os.getuid() or about.st_mode & 0o022):
        return Path(tempfile.mkdtemp(prefix="triptych-files-"))
    return folder


def _is_whole(folder: Path, luggage: Luggage) -> bool:
    try:
        return all((folder / name).read_bytes() == content for name, content in luggage.files.items())
    except OSError:
        return False
