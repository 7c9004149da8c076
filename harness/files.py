"""Files and folders that are whole or not there: written beside their destination, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from triptych.harness.errors import UsageError

_documents: TextIO | None = None  # where `-` leads while standard output is for one document alone


class OutputError(UsageError):
    """A file cannot be written where it was asked for."""


@contextlib.contextmanager
def stdout_for_a_document(ends_process: bool) -> Iterator[None]:
    """Within, `write("-", ...)` alone reaches standard output; whatever else is printed goes to standard error.

    That holds for what a kernel's file prints when it is loaded, through Python or through C. With `ends_process` it
    stays so afterwards, for what the file prints when Python ends.
    """
    global _documents
    stream, _documents, kept = sys.stdout, sys.stdout, None
    try:
        if stream.fileno() == 1:
            stream.flush()
            kept = os.dup(1)
            _documents = os.fdopen(os.dup(1), "w", encoding="utf-8")
            os.dup2(2, 1)
    except (OSError, ValueError):  # a stream of Python's alone, or one that is closed
        pass
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        if not ends_process:
            sys.stdout = stream
            if kept is not None:
                os.dup2(kept, 1)
        if kept is not None:
            with contextlib.suppress(OSError):
                _documents.close()
            os.close(kept)
        _documents = None


def check_writable(path: str) -> None:
    """Raise before hours of work rather than after: the folder must be there and take a file."""
    if path == "-":
        return
    target = Path(path)
    if target.is_dir():
        raise OutputError(f"{path} is a folder; name a file in it.")
    folder = target.resolve().parent
    if not folder.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {target.parent}.")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write {path}: the folder {target.parent} takes no files.")


def to_be_made(path: str, what: str) -> Path:
    """A path at which nothing is yet, in a folder that is there. UsageError, which starts its advice with `what`."""
    target = Path(path)
    if target.exists() or not target.parent.is_dir():
        why = "is there already" if target.exists() else "is in a folder that is not there"
        raise UsageError(f"{target} {why}; {what} that is to be made.")
    return target


def write(path: str, content: str | bytes) -> None:
    """Put `content` at `path`; `-` is stdout, which takes text."""
    if isinstance(content, bytes):
        write_bytes(path, content)
    elif path == "-":
        stream = _documents or sys.stdout
        stream.write(content)
        stream.flush()
    else:
        write_bytes(path, content.encode("utf-8"))


def write_bytes(path: str, data: bytes) -> None:
    """Put `data` at `path`. A reader sees the old file or the new one, never a part of one."""
    target = Path(path).resolve()  # through a link, so that the link stays one
    try:
        if target.exists() and not target.is_file():  # a pipe or a device has no rename
            target.write_bytes(data)
            return
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~umask()
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, mode)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}.") from error


def write_folder(target: Path, found: Mapping[str, str]) -> None:
    """Text files by their paths below `target`, a folder that is whole when it has its name."""
    try:
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            made.chmod(0o755)
            for name, text in found.items():
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                (made / name).write_text(text, encoding="utf-8")
            made.rename(target)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}.") from error


def umask() -> int:
    """The process's file mode mask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
