"""Kernels in place of others: a file with another setting of its knobs, and ops with other kernels than their own.

A variant lies in a folder of its own in which everything else beside the file is a link, so that it imports what the
file imports.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from triptych.harness.ops.loading import package_of
from triptych.harness.ops.op import Op


def beside_links(path: Path, text: bytes, folder: Path) -> Path:
    """`text` as the file at `path`, in a copy made of links of the folder, or of the package, that holds it."""
    source = package_of(path)[0]
    for part in (*path.relative_to(source).parts[:-1], path.name):
        folder.mkdir(parents=True, exist_ok=True)
        for entry in os.scandir(source):
            if entry.name not in (part, "__pycache__"):
                (folder / entry.name).symlink_to(entry.path)
        source, folder = source / part, folder / part
    folder.write_bytes(text)
    return folder


def ops_file(folder: Path, ops: Iterable[tuple[Op, Mapping[str, str]]], source: str | None) -> Path:
    """A file that declares ops as `source` or triptych does, but with other kernels by panel; an empty one is none.

    It names files by the way from its own folder to them, which is the same where all of them are copied to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    origin = f"[str(HERE / {from_folder(source, folder)!r})]" if source else "[]"
    lines = [
        "from dataclasses import replace",
        "from pathlib import Path",
        "from triptych.harness.collection import load_ops",
        "HERE = Path(__file__).parent",
    ]
    for number, (op, kernels) in enumerate(ops):
        named = {panel: from_folder(kernel, folder) if kernel else None for panel, kernel in kernels.items()}
        given = ", ".join(f"{panel}={kernel!r}" for panel, kernel in named.items())
        lines.append(f"op_{number} = replace(load_ops({origin})[{op.name!r}], {given})")
    path = folder / "triptych_ops.py"
    path.write_text("\n".join(lines) + "\n")
    return path


def from_folder(path: str, folder: Path) -> str:
    """The way to a file, or to a function of it, from a folder; the whole path where none leads there."""
    try:
        return os.path.relpath(os.path.realpath(path), os.path.realpath(folder))
    except ValueError:  # on another drive
        return os.path.realpath(path)
