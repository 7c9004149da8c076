"""Kernels of public repositories, read from the user's checkouts at run time: nothing of them is part of this project.

A checkout is a folder, or a git repository whose files need not lie in the folder (a bare one will do); from the latter
a file can be read as it was at a commit, so that a kernel is the one that somebody measured. Which repository a path
holds is seen from a file or folder in it.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import textwrap
import types
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from triptych import simulator
from triptych.simulator.launch.import_hook import simulated_nki

SDK, LIBRARY, AUTOTUNE = "aws-neuron/aws-neuron-sdk", "aws-neuron/nki-library", "awslabs/nki-autotune"
_PACKAGE = "src/nkilib_src"
_SIGNS = {SDK: "nki/guides", LIBRARY: _PACKAGE, AUTOTUNE: "kernel_library"}


class NotHere(Exception):
    """A source is not in the checkouts that were given; one sentence."""


@dataclass(frozen=True)
class Checkout:
    """A repository at a path."""

    name: str
    path: Path

    def text(self, file: str, commit: str | None = None) -> str:
        """A file's text: as it was at `commit` where git knows it, else as it lies there."""
        if commit is not None or not (self.path / file).exists():
            shown = _git(self.path, "show", f"{commit or 'HEAD'}:{file}")
            if shown is not None:
                return shown
        try:
            return (self.path / file).read_text(encoding="utf-8")
        except OSError:
            at = f" at {commit}" if commit else ""
            raise NotHere(f"{self.path} has no {file}{at}; give a full git clone of {self.name}") from None


def _git(path: Path, *words: str) -> str | None:
    """What git says in a repository; None where it fails or there is none."""
    try:
        done = subprocess.run(["git", "-C", str(path), *words], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def identify(path: Path) -> Checkout | None:
    """The repository that lies at a path, if it is one of those that are known."""
    for name, sign in _SIGNS.items():
        if (path / sign).exists() or _git(path, "cat-file", "-e", f"HEAD:{sign}") is not None:
            return Checkout(name, path)
    return None


class Public:
    """The checkouts at hand."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self.checkouts: dict[str, Checkout] = {}
        for path in paths:
            found = identify(path)
            if found is None:
                raise NotHere(f"{path} is no checkout of {', '.join(_SIGNS)}")
            self.checkouts[found.name] = found

    def checkout(self, name: str) -> Checkout:
        if name not in self.checkouts:
            raise NotHere(f"needs a checkout of {name}")
        return self.checkouts[name]

    def module(self, name: str, file: str, commit: str | None = None) -> types.ModuleType:
        """A kernel file as a module, with the simulator as its nki."""
        return _executed(self.checkout(name).text(file, commit))

    def excerpt(self, name: str, page: str, number: int) -> types.ModuleType:
        """The Python excerpt `number`, from 0, of those of a page that declare a kernel, as a module."""
        excerpts = [text for text in code_blocks(self.checkout(name).text(page)) if "@nki.jit" in text]
        if number >= len(excerpts):
            raise NotHere(f"{page} has {len(excerpts)} kernels, and number {number + 1} was measured")
        return _executed(excerpts[number])

    def library(self, module: str) -> Any:
        """A module of nki-library, as `nkilib.core.attention.attention_cte`."""
        root = self.checkout(LIBRARY).path / _PACKAGE
        if not root.is_dir():
            raise NotHere(f"{self.checkout(LIBRARY).path} has no files; give a checkout with its files")
        with _importable(root):
            return importlib.import_module(module)


@contextmanager
def _importable(root: Path) -> Iterator[None]:
    sys.path.insert(0, str(root))
    try:
        with simulated_nki():
            yield
    finally:
        sys.path.remove(str(root))


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Where sources lie as long as this process runs: tracebacks and the linter read them again."""
    return tempfile.TemporaryDirectory(prefix="triptych-public-")


@cache
def _executed(text: str) -> types.ModuleType:
    """A module of that source. What it sets in the environment, as tutorials do, is taken back."""
    file = Path(_folder().name) / f"kernel_{zlib.crc32(text.encode()):08x}.py"
    file.write_text(text, encoding="utf-8")
    before = dict(os.environ)
    try:
        return simulator.load(file)
    finally:
        os.environ.clear()
        os.environ.update(before)


def code_blocks(page: str) -> Iterator[str]:
    """The Python excerpts of a page, or of the docstrings of a module, without their indentation."""
    lines = page.splitlines()
    for start, line in enumerate(lines):
        if line.strip() != ".. code-block:: python":
            continue
        margin = len(line) - len(line.lstrip())
        block: list[str] = []
        for body in lines[start + 1 :]:
            if body.strip() and len(body) - len(body.lstrip()) <= margin:
                break
            block.append(body)
        code = textwrap.dedent("\n".join(block)).strip("\n") + "\n"
        if code.count('"""') % 2:  # the last excerpt of a docstring, which ends with it
            code = code[: code.rindex('"""')]
        yield code
