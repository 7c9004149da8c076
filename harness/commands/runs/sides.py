"""What BASE and NEW of a comparison may be: a document, a kernel file, a function of one, a revision, a backend.

A side that is no document is run here and now, with the judge, the inputs and the timing model of this version: of a
revision the kernels alone are taken, from a worktree that is there as long as the comparison.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from triptych.harness.backends import BACKENDS
from triptych.harness.collection import load_ops
from triptych.harness.errors import UsageError
from triptych.harness.ops.loading import split_function
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import pick_ops, sets_of
from triptych.harness.running.request import Request
from triptych.harness.tuning.variants import ops_file

PANELS = ("nki", "triton")
BACKEND = re.compile(r"([\w-]+)(?:\[(\w+)\])?")


@dataclass(frozen=True)
class Side:
    """One side: the document at `path`, or what to run."""

    name: str  # as the user gave it
    path: str | None = None
    request: Request | None = None
    backend: bool = False  # whether it is a backend


@contextlib.contextmanager
def sides(words: Sequence[str], request: Request) -> Iterator[list[Side]]:
    """Both sides; what was made for them is gone afterwards. UsageError for a word that is none of the five."""
    with contextlib.ExitStack() as stack:
        files = [word for word in words if is_kernel(word)]
        found = [usual(side(word, request, files, stack)) for word in words]
        if found[0].backend != found[1].backend:
            one = words[0] if found[0].backend else words[1]
            raise UsageError(f"{one} is a backend, which is compared with another backend.")
        yield found


def usual(side: Side) -> Side:
    """A side whose ops run a model's sizes, or their smallest set where they have none: a regime changes no time."""
    if side.request is None:
        return side
    known = sets_of(load_ops(side.request.sources).values())
    sets = next(([name] for name in ("model", "smoke") if name in known), known)
    return replace(side, request=replace(side.request, default_sets=sets))


def is_kernel(word: str) -> bool:
    path, _ = split_function(word)
    return path.endswith(".py") and Path(path).is_file()


def side(word: str, request: Request, files: Sequence[str], stack: contextlib.ExitStack) -> Side:
    """What a word means."""
    match = BACKEND.fullmatch(word)
    if match and match[1] in BACKENDS:
        targets = [match[2]] if match[2] else request.targets
        chosen = [name for name in request.backends if name != match[1]]
        if chosen:
            raise UsageError(f"{word} is the backend of one side; --backend is for sides that are none.")
        return Side(word, request=replace(request, backends=[match[1]], targets=targets), backend=True)
    path, function = split_function(word)
    if is_kernel(word):
        source: str | None = path
        if function is not None:
            source = str(generated(stack, [with_function(request, Path(path), function)], request.source))
        return Side(word, request=replace(request, sources=[str(source)]))
    if Path(word).exists():
        return Side(word, path=word)
    source = request.source or next((split_function(file)[0] for file in files), None)
    folder = Path(source).resolve().parent if source else Path(__file__).resolve().parents[3]
    sha = git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{word}^{{commit}}")
    if sha is None:
        raise UsageError(
            f"{word!r} is no document, no kernel file, no revision of the repository of "
            f"{source or 'triptych itself'} (of which the kernels alone are taken), and none of the backends "
            f"{', '.join(BACKENDS)}."
        )
    return Side(
        f"{word} ({sha[:10]})", request=replace(request, sources=[revision(stack, folder, sha, source, request)])
    )


def with_function(request: Request, path: Path, function: str) -> tuple[Op, dict[str, str]]:
    """The only selected op, with a function of a file as its kernel."""
    ops = pick_ops(request.ops, load_ops(request.sources))
    if len(ops) != 1:
        raise UsageError(
            f"{path}:{function} is a kernel of one op, and {', '.join(ops)} are selected; name it after NEW."
        )
    panel = "triton" if re.search(r"^\s*(import|from) triton\b", path.read_text(errors="replace"), re.M) else "nki"
    kernels = {name: f"{path.resolve()}:{function}" if name == panel else "" for name in (*PANELS, "torch")}
    return next(iter(ops.values())), kernels


def generated(stack: contextlib.ExitStack, ops: Sequence[tuple[Op, dict[str, str]]], source: str | None) -> Path:
    """A file of ops with other kernels, which is gone after the comparison."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="triptych-compare-"))
    return ops_file(Path(folder), ops, source)


def revision(stack: contextlib.ExitStack, folder: Path, sha: str, source: str | None, request: Request) -> str:
    """The file to take ops from for a commit: the user's as it was, or triptych's ops with the kernels as they were."""
    tree = stack.enter_context(worktree(folder, sha))
    root = Path(git(folder, "rev-parse", "--show-toplevel") or folder).resolve()
    if source is not None:
        there = tree / Path(source).resolve().relative_to(root)
        if not there.is_file():
            raise UsageError(f"{source} is not in {sha[:10]}.")
        return str(there)
    ops = pick_ops(request.ops, load_ops(()))
    kernels = [(op, kernels_in(op, root, tree)) for op in ops.values()]
    if not any(kernel for _, found in kernels for kernel in found.values()):
        raise UsageError(
            f"{sha[:10]} has no kernel of {', '.join(ops)}: of a revision the kernels alone are taken; ops, "
            "references, inputs and judge are today's."
        )
    return str(generated(stack, kernels, None))


def kernels_in(op: Op, root: Path, tree: Path) -> dict[str, str]:
    """The kernels of an op as a tree has them; none where the tree has no such file."""
    found = {}
    for panel in PANELS:
        kernel = getattr(op, panel)
        if isinstance(kernel, str):
            path, _, function = kernel.rpartition(":")
            there = tree / Path(path).resolve().relative_to(root)
            found[panel] = f"{there}:{function}" if there.is_file() else ""
    return found


@contextlib.contextmanager
def worktree(folder: Path, sha: str) -> Iterator[Path]:
    """The files of a commit of the repository that holds a folder; taken away again, whatever happens."""
    with tempfile.TemporaryDirectory(prefix="triptych-revision-") as temporary:
        tree = Path(temporary).resolve() / "tree"
        hooks = ("-c", "core.hooksPath=/dev/null")
        if git(folder, *hooks, "worktree", "add", "--quiet", "--detach", str(tree), sha) is None:
            raise UsageError(f"git cannot make a worktree of {sha[:10]}; `git worktree add` says why.")
        try:
            yield tree
        finally:
            git(folder, "worktree", "remove", "--force", str(tree))


def git(folder: Path, *words: str) -> str | None:
    """What git prints; None if it fails or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
