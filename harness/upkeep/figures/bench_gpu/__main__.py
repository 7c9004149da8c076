"""`python -m triptych.harness.upkeep.figures.bench_gpu`: the command line of one session."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context

from triptych.harness import files
from triptych.harness.backends import BACKENDS
from triptych.harness.collection import builtin
from triptych.harness.emulators.devices import DEVICES
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
from triptych.harness.upkeep.figures.bench_gpu.clocks.device import Cuda
from triptych.harness.upkeep.figures.bench_gpu.record import Record, identity
from triptych.harness.upkeep.figures.bench_gpu.session import DeviceLost, Session

MODULE = "triptych.harness.upkeep.figures.bench_gpu"
LONGEST = 60.0  # seconds that a launch waits for its kernels, which it then compiles itself


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
        try:
            again = run(ops, first, cases, arguments.json, begun + arguments.seconds)
        finally:
            release()
    except UsageError as error:
        say(f"bench_gpu: {error}")
        return ExitCode.USAGE
    if again is not None:
        seconds = ["--seconds", f"{again:.0f}"]
        os.execv(sys.executable, [sys.executable, "-m", MODULE, *(sys.argv[1:] if argv is None else argv), *seconds])
    return shown(arguments.json)


def run(ops: Mapping[str, Op], first: Sequence[Case], cases: Sequence[Case], path: str, end: float) -> float | None:
    """A session until `end`; the seconds that are left if it lost the GPU, and a new process may go on."""
    device = Cuda()
    record = Record(path, ops, first, cases, device.gpus, f"python -m {MODULE} --json {os.path.basename(path)}")
    cores, target = os.cpu_count() or 2, filled.target_here()
    with workers(max(1, cores - 4)) as judges, workers(max(1, cores // 2)) as compilers:
        missing = {row[:3] for row in record.planned if not record.has(row)}
        filling = {}
        for case in [*first, *cases]:
            if target is not None and identity(case) in missing:
                filling[identity(case)] = compilers.submit(filled.fill, case.op, case, target)

        def ready(case: Case) -> None:
            if identity(case) in filling:
                wait([filling[identity(case)]], timeout=LONGEST)

        session = Session(record, first, cases, end - time.monotonic(), device, judges, ready=ready, say=say)
        try:
            session.run()
        except DeviceLost as error:
            say(f"the GPU is lost to this process ({error}); another one goes on")
            return max(session.left(), 0.0) or None
    return None


@contextmanager
def workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes without a GPU, of one thread each; they start anew, because a GPU's context cannot be forked."""
    os.environ.update(ONE_THREAD)
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def fill(cases: Sequence[Case], target: str) -> int:
    """Compile all that a session launches, the most telling first; says what does not compile."""
    if target not in DEVICES:
        raise UsageError(f"cannot compile for {target!r}; the targets are {', '.join(DEVICES)}.")
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
