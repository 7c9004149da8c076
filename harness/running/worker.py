"""The worker process: performs one task after the other and reports over pipes that no kernel can reach by printing.

Messages are pickles: (Task, Settings) comes in; ("ready", pid), ("phase", what), ("verdict", Result) and ("result",
Result) go out, or ("last result", Result) after what leaves the process unfit for another case: a GPU fault, after
which every call of that process fails, or memory that ran out. When the parent is gone its pipe closes, and the worker
ends at once, even in the middle of a kernel.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import sys
import threading
from collections.abc import Mapping
from typing import BinaryIO

from triptych.harness.ops.op import Op
from triptych.harness.running import crash_location, memory_limit
from triptych.harness.running.bench import Bench
from triptych.harness.running.tasks import Settings, Task
from triptych.harness.running.workers.pipes import end_with_parent, private_pipes

Jobs = queue.SimpleQueue[tuple[Task, Settings]]


def main() -> None:
    """A process that was started anew: serve, with the descriptor for its stack among its arguments."""
    serve(int(sys.argv.pop()) if len(sys.argv) > 1 else None, {})


def serve(stack: int | None, ops: Mapping[str | None, Mapping[str, Op]]) -> None:
    """Serve until the parent goes away.

    stack: the descriptor of the file to write the stack into when it comes to that
    ops: what is loaded already, by its file
    """
    end_with_parent()
    requests, replies = private_pipes()
    crash_location.enable(stack)
    memory_limit.keep_freed()
    own = os.getpid()
    jobs: Jobs = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests, jobs), daemon=True).start()

    def send(kind: str, value: object) -> None:
        if os.getpid() != own:  # a kernel forked, and its child came back: its result would be taken for the next one's
            os._exit(0)
        try:
            pickle.dump((kind, value), replies)
            replies.flush()
        except OSError:  # a kernel closed it, or the parent is gone
            os._exit(1)

    bench = Bench(lambda what: send("phase", what), lambda result: send("verdict", result))
    bench.sources = {source: dict(some) for source, some in ops.items()}
    send("ready", os.getpid())
    while True:
        task, settings = jobs.get()
        if bench.memory is None:
            bench.memory = settings.memory or memory_limit.default()
            memory_limit.apply(bench.memory)
        result = bench.perform(task, settings)
        with contextlib.suppress(OSError, ValueError):  # closed by a kernel
            sys.stdout.flush()  # what was printed is not lost when this process is ended
        send("last result" if bench.unfit else "result", result)


def _receive(requests: BinaryIO, jobs: Jobs) -> None:
    try:
        while True:
            jobs.put(pickle.load(requests))
    finally:
        os._exit(0)
