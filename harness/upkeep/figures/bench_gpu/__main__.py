"""`python -m triptych.harness.upkeep.figures.bench_gpu`: the command line of one session."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

from triptych.harness import files
from triptych.harness.backends import BACKENDS
from triptych.harness.collection import builtin
from triptych.harness.errors import UsageError
from triptych.harness.exit_codes import ExitCode
from triptych.harness.locks import lock
from triptych.harness.one_thread import ONE_THREAD
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import pick
from triptych.harness.reports import problems, tables
from triptych.harness.results.document import read
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD
from triptych.harness.upkeep.figures.bench_gpu import filled, points, shares
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
    parser.add_argument(
        "--fill", metavar="TARGET", help="fill the cache for a GPU, sm_90, which need not be here, and do nothing else"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    begun = time.monotonic()
    arguments = parsed(argv)
    try:
        ops = {name: op for name, op in builtin().items() if op.triton is not None}
        wanted = {name: ops[name] for name in pick("op", arguments.ops, tuple(ops))} if arguments.ops else ops
        first, cases = points.checks(wanted), points.points(wanted)
        if arguments.cache:
            os.environ["TRITON_CACHE_DIR"] = os.path.abspath(arguments.cache)
        if arguments.fill:
            return fill([*cases, *first], arguments.fill)
        for name in ("triton", "torch"):
            reason = BACKENDS[name].missing()
            if reason:
                say(f"bench-gpu needs a GPU with Triton and PyTorch: {reason}.")
                return ExitCode.REQUIRED_MISSING
        files.check_writable(arguments.json)
        release = lock(arguments.json)
    except UsageError as error:
        say(f"bench_gpu: {error}")
        return ExitCode.USAGE
    try:
        again = run(ops, first, cases, arguments.json, begun + arguments.seconds)
    finally:
        release()
    if again is not None:
        seconds = ["--seconds", f"{again:.0f}"]
        os.execv(sys.executable, [sys.executable, "-m", MODULE, *(sys.argv[1:] if argv is None else argv), *seconds])
    return shown(arguments.json)


def run(ops: Mapping[str, Op], first: Sequence[Case], cases: Sequence[Case], path: str, end: float) -> float | None:
    """A session until `end`; the seconds that are left if it lost the GPU, and a new process may go on."""
    device = Cuda()
    record = Record(path, ops, first, cases, device.gpus, f"python -m {MODULE} --json {os.path.basename(path)}")
    with workers() as judges, workers() as compilers:
        target = filled.target_here()
        for case in [*first, *cases] if target else []:
            compilers.submit(filled.fill, case.op, case, target)
        session = Session(record, first, cases, end - time.monotonic(), device, judges, say=say)
        try:
            session.run()
        except DeviceLost as error:
            say(f"the GPU is lost to this process ({error}); another one goes on")
            return max(session.left(), 0.0) or None
    return None


@contextmanager
def workers() -> Iterator[ProcessPoolExecutor]:
    """Processes without a GPU, of few threads each; they start anew, because a GPU's context cannot be forked."""
    for name in ONE_THREAD:
        os.environ[name] = str(THREADS)
    pool = ProcessPoolExecutor(max(1, (os.cpu_count() or 2) // 2), mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def fill(cases: Sequence[Case], target: str) -> int:
    """Compile all that a session launches, in the order in which it does; says what does not compile."""
    failed = 0
    for i, case in enumerate(cases):
        print(f"[{i}/{len(cases)}] {case.op} {case.name} {case.dtype}", file=sys.stderr)
        why = filled.fill(case.op, case, target)
        failed += bool(why)
        if why:
            print(why)
    print(f"{len(cases) - failed} of {len(cases)} cases are compiled for {target}")
    return ExitCode.MISMATCH if failed else ExitCode.OK


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def shown(path: str) -> int:
    """Print what the document holds."""
    results = [result for result in read(path).results if isinstance(result, Result)]
    print(tables.text(results))
    print(problems.problems(results), end="")
    print(shares.summarise(results))
    print(f"results: {path} (`triptych report --from {path}` draws them)")
    print(problems.summary(results, 0))
    return ExitCode.MISMATCH if any(result.status in BAD for result in results) else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
