"""A function of 0, 1, 2, ... evaluated by several workers, which are forked off this process and need not be told it.

Predictions are made so. Where forking is not safe (`forked.is_safe`), on other systems than Linux for one, this process
evaluates one after the other; results are the same. Workers of other machines must be told: a `Maker` says how.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from triptych.harness.ops.op import Op
from triptych.harness.running.workers import cores, forked, pipes
from triptych.harness.running.workers.ended import in_words, kill_group
from triptych.harness.running.workers.forked import Forked
from triptych.harness.running.workers.handing_out import hand_out

T = TypeVar("T")


@dataclass(frozen=True)
class Maker(Generic[T]):
    """How a process that was not forked off this one makes a function: as `make(sources, *arguments)`.

    make: a function of a module of ours
    sources: files of the user's, which are other paths on another machine
    arguments: what can be pickled
    ops: whose kernels' files are needed as well
    placed: puts into a result on which node and which processor it was made
    """

    make: Callable[..., Callable[[int], T]]
    sources: Sequence[str] = ()
    arguments: tuple[Any, ...] = ()
    ops: Sequence[Op] = ()
    placed: Callable[[T, str, str], T] = lambda result, node, device: result


class Each(Protocol):
    """What evaluates a function of 0, 1, 2, ... by several workers, here or elsewhere."""

    def __call__(
        self, function: Callable[[int], T], count: int, died: Callable[[int, str], T], maker: Maker[T]
    ) -> Generator[tuple[int, T], None, None]:
        """(i, function(i)) for each i below `count`, as they come; `died` makes the result of what cost its worker."""


@dataclass(frozen=True)
class Here:
    """Workers of this machine; `jobs` of them, or one a core."""

    jobs: int | None = None

    def __call__(
        self, function: Callable[[int], T], count: int, died: Callable[[int, str], T], maker: Maker[T]
    ) -> Generator[tuple[int, T], None, None]:
        return each(function, count, self.jobs, died)


def each(
    function: Callable[[int], T], count: int, jobs: int | None, died: Callable[[int, str], T]
) -> Generator[tuple[int, T], None, None]:
    """(i, function(i)) for each i below `count`, as they come; whoever stops asking ends all that runs.

    jobs: how many at once; None: one a core
    died: the result of an i that cost its process, of which it gets a sentence
    """
    workers = min(cores.bearable(jobs or cores.usable()), count)
    if workers < 2 or not forked.is_safe():
        yield from ((i, function(i)) for i in range(count))
        return
    left = set(range(count))
    with closing(hand_out([[i] for i in range(count)], [_Hand(function) for _ in range(workers)])) as coming:
        for i, (kind, value) in coming:
            if kind == "raised":
                raise value
            if kind != "cannot be sent":
                left.remove(i)
                yield i, died(i, value) if kind == "died" else value
    yield from ((i, function(i)) for i in sorted(left))


class _Hand:
    """One worker. It is forked when it is made, while this process has one thread; the next one, if it dies, never."""

    def __init__(self, function: Callable[[int], Any]) -> None:
        self.process: Forked | None = Forked(lambda: _serve(function))

    @property
    def is_fit(self) -> bool:
        return self.process is not None

    def mend(self) -> bool:
        return False

    def takes(self, number: int) -> bool:
        return True

    def do(self, number: int, chain: Sequence[int]) -> tuple[str, Any]:
        """("done", the result), or why there is none."""
        assert self.process is not None
        try:
            pickle.dump(number, self.process.stdin)
            self.process.stdin.flush()
            found: tuple[str, Any] = pickle.load(self.process.stdout)
            return found
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            why = f"the worker process died: {in_words(self.process.wait())}"
            self.stop()
            return "died", why

    def kill(self) -> None:
        process = self.process
        if process is not None:
            kill_group(process.pid)
            process.kill()

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
            kill_group(process.pid)
            process.wait()
            process.stdout.close()


def _serve(function: Callable[[int], Any]) -> None:
    """In the worker: answer until the parent goes away."""
    pipes.end_with_parent()
    requests, replies = pipes.private_pipes()
    while True:
        try:
            number = pickle.load(requests)
        except EOFError:
            return
        try:
            said: tuple[str, Any] = ("done", function(number))
        except BaseException as error:
            said = ("raised", error)
        try:
            answer = pickle.dumps(said)
            pickle.loads(answer)
        except Exception:
            answer = pickle.dumps(("cannot be sent", None))
        sys.stdout.flush()  # what was printed is not lost when this process is ended
        replies.write(answer)
        replies.flush()
