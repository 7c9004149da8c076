"""Files of bytes by key in the user's cache folder: whole or not there, no larger together than a limit.

The folder is `references` in the one that the variable TRIPTYCH_CACHE names, else in `triptych` of XDG_CACHE_HOME, else
in `~/.cache/triptych`; TRIPTYCH_CACHE=off keeps nothing. Whoever wants the room back deletes it, at any time. A file is
written beside its place and renamed, and says how long it is and what its sum is: one that does not say so is not
there. What was used longest ago goes first. A folder that takes no files keeps nothing, and nobody is told.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

VARIABLE = "TRIPTYCH_CACHE"
MOST_BYTES = 2**30  # of all files together
LARGEST = 2**27  # bytes of one file
HEAD = struct.Struct("<8sQI4x")  # what it is, its length, its sum
MAGIC = b"triptych"
ABANDONED_S = 3600.0  # after which a file that was never renamed is nobody's


def place() -> Path | None:
    """The folder, which need not be there yet; None for none."""
    named = os.environ.get(VARIABLE)
    if named == "off":
        return None
    if named:
        return Path(named).expanduser() / "references"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    with contextlib.suppress(RuntimeError):  # there is no home
        return Path(base).expanduser() / "triptych" / "references"
    return None


class Folder:
    """The files of a folder.

    most: bytes of all of them together
    """

    def __init__(self, path: Path, most: int = MOST_BYTES) -> None:
        self.path, self.most = path, most
        self.since_tidied: int | None = None  # bytes that were put; None: it was not looked at yet

    def get(self, key: str) -> memoryview | None:
        """The bytes that were put under a key; None if there are none, or not whole."""
        file = self.path / key
        try:
            with open(file, "rb") as stream:
                whole = bytearray(os.fstat(stream.fileno()).st_size)
                if stream.readinto(whole) != len(whole) or len(whole) < HEAD.size:
                    return None
            os.utime(file)
        except OSError:
            return None
        magic, length, total = HEAD.unpack_from(whole)
        found = memoryview(whole)[HEAD.size :]
        whole_one = magic == MAGIC and length == len(found) and total == zlib.crc32(found)
        return found if whole_one else None

    def put(self, key: str, parts: Sequence[Any]) -> None:
        """Keep bytes, in parts, under a key, if they are not too many."""
        length, total = sum(len(part) for part in parts), 0
        if length > min(LARGEST, self.most):
            return
        for part in parts:
            total = zlib.crc32(part, total)
        with contextlib.suppress(OSError):
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, temporary = tempfile.mkstemp(dir=self.path, prefix=".")
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(HEAD.pack(MAGIC, length, total))
                    stream.writelines(parts)
                os.replace(temporary, self.path / key)
            except BaseException:
                os.unlink(temporary)
                raise
            self.tidy(length)

    def tidy(self, put: int) -> None:
        """After so many bytes more: take away what was used longest ago, down to the limit. Not after every file."""
        if self.since_tidied is not None and self.since_tidied + put < self.most / 16:
            self.since_tidied += put
            return
        self.since_tidied = 0
        found = []
        for entry in os.scandir(self.path):
            with contextlib.suppress(OSError):  # another process took it away
                about = entry.stat()
                if entry.name.startswith(".") and about.st_mtime < time.time() - ABANDONED_S:
                    os.unlink(entry.path)
                elif not entry.name.startswith("."):
                    found.append((about.st_mtime, about.st_size, entry.path))
        too_much = sum(size for _, size, _ in found) - self.most * 15 / 16
        for _, size, path in sorted(found):
            if too_much <= 0:
                break
            too_much -= size
            with contextlib.suppress(OSError):
                os.unlink(path)
