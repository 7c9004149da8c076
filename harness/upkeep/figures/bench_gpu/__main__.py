"""`python -m triptych.harness.upkeep.figures.bench_gpu`: the command line of one session."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from triptych.harness import files
from triptych.harness.backends import BACKENDS
from triptych.harness.collection import builtin
from triptych.harness.exit_codes import ExitCode
from triptych.harness.locks import lock
from triptych.harness.one_thread import ONE_THREAD
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import pick
from triptych.harness.reports import problems, tables
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD
from triptych.harness.upkeep.figures.bench_gpu import points, shares
from triptych.harness.upkeep.figures.bench_gpu.device import Cuda
from triptych.harness.upkeep.figures.bench_gpu.record import Record
from triptych.harness.upkeep.figures.bench_gpu.session import DeviceLost, Session

MODULE = "triptych.harness.upkeep.figures.bench_gpu"
THREADS = 4  # of a process that judges


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench_gpu",
        description="Check and time the ops' Triton kernels on this machine's GPU, beside PyTorch's.",
        allow_abbrev=False,
    )
    parser.add_argument("ops", nargs="*", metavar="OP", help="(default: all with a Triton panel)")
    parser.add_argument("--json", default="report.json", metavar="FILE", help="what it holds is not measured again")
    parser.add_argument(
        "--seconds", type=float, default=480.0, metavar="S", help="after which no point is begun (default: 480)"
    )
    parser.add_argument("--cache", metavar="DIR", help="Triton's cache of compiled kernels, which may be filled ahead")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    begun = time.monotonic()
    arguments = parsed(argv)
    if arguments.cache:
        os.environ["TRITON_CACHE_DIR"] = os.path.abspath(arguments.cache)
    for name in ("triton", "torch"):
        reason = BACKENDS[name].missing()
        if reason:
            print(f"bench-gpu needs a GPU with Triton and PyTorch: {reason}.", file=sys.stderr)
            return ExitCode.REQUIRED_MISSING
    files.check_writable(arguments.json)
    ops = {name: op for name, op in builtin().items() if op.triton is not None}
    wanted = chosen(ops, arguments.ops)
    release = lock(arguments.json)
    try:
        with judging() as pool:
            device, first, cases = Cuda(), points.checks(wanted), points.points(wanted)
            command = f"python -m {MODULE} --json {os.path.basename(arguments.json)}"
            record = Record(arguments.json, ops, first, cases, device.gpus, command)
            seconds = arguments.seconds - (time.monotonic() - begun)
            session = Session(record, first, cases, seconds, device, pool, say=say)
            try:
                session.run()
            except DeviceLost as error:
                say(f"the GPU's context is lost ({error}); the session goes on in a new process")
                pool.shutdown(wait=False, cancel_futures=True)
                release()
                if session.left() <= 0:
                    return ExitCode.MISMATCH
                again = [*(sys.argv[1:] if argv is None else argv), "--seconds", f"{session.left():.0f}"]
                os.execv(sys.executable, [sys.executable, "-m", MODULE, *again])
    finally:
        release()
    return shown(record.ordered(), arguments.json)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def chosen(ops: dict[str, Op], names: Sequence[str]) -> dict[str, Op]:
    return {name: ops[name] for name in pick("op", names, tuple(ops))} if names else ops


def judging() -> ProcessPoolExecutor:
    """Processes that judge, of few threads each; they start anew, because a GPU's context cannot be forked."""
    for name in ONE_THREAD:
        os.environ[name] = str(THREADS)
    return ProcessPoolExecutor(max(2, (os.cpu_count() or 2) // 2), mp_context=get_context("spawn"))


def shown(results: Sequence[Result], path: str) -> int:
    print(tables.text(results))
    print(problems.problems(results), end="")
    print(shares.summarise(results))
    print(f"results: {path} (`triptych report --from {path}` draws them)")
    print(problems.summary(results, 0))
    return ExitCode.MISMATCH if any(result.status in BAD for result in results) else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
