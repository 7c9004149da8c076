"""One session on a GPU: everything is checked, then measured point by point until its seconds are over.

What the document holds already is not measured again, and the points that a killed session was at are tried last.
While one point is timed, the pieces of the next ones are judged in other processes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

from triptych.harness.arrays import to_torch
from triptych.harness.backends import BACKENDS
from triptych.harness.backends.triton_launcher import as_held
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.verdict import Verdict
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD, Cause, Status
from triptych.harness.upkeep.figures.bench_gpu import calls, judged
from triptych.harness.upkeep.figures.bench_gpu.calls import Contender, as_arrays
from triptych.harness.upkeep.figures.bench_gpu.clocks.device import Device
from triptych.harness.upkeep.figures.bench_gpu.clocks.timed import time_all
from triptych.harness.upkeep.figures.bench_gpu.drawn import Inputs, draw
from triptych.harness.upkeep.figures.bench_gpu.parts import Part, parts
from triptych.harness.upkeep.figures.bench_gpu.record import Record, identity, key

AHEAD = 6  # points whose outputs are being judged while another is timed
NO_KERNEL = ("No available kernel", "No viable backend")  # what SDPA says of an implementation that lacks the case


def nothing(case: Case) -> None:
    """What there is to wait for where kernels are compiled when they are launched."""


class DeviceLost(Exception):
    """The GPU's context is broken, and every further call of this process fails."""


@dataclass
class Begun:
    """A point whose contenders have run once, and whose outputs are being judged."""

    op: Op
    case: Case
    rows: list[Result]
    inputs: Inputs = field(default_factory=lambda: Inputs({}))
    ran: list[tuple[Contender, Result, dict[str, Any]]] = field(default_factory=list)  # with what they computed
    pieces: list[Part] = field(default_factory=list)
    verdicts: list[Future[list[Verdict] | None]] = field(default_factory=list)  # of each piece, on each of `ran`


class Session:
    """A session that fills a record.

    seconds: after which no further point is begun.
    pool: judges; its processes have no GPU.
    ready: waits until the kernels of a case are compiled, where somebody else does that.
    clock: seconds that pass.
    say: takes a line for the user.
    """

    def __init__(
        self,
        record: Record,
        first: Sequence[Case],
        cases: Sequence[Case],
        seconds: float,
        device: Device,
        pool: Executor,
        *,
        ready: Callable[[Case], None] = nothing,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = print,
    ) -> None:
        self.record, self.first, self.cases = record, first, cases
        self.seconds, self.device, self.pool = seconds, device, pool
        self.ready, self.clock, self.say = ready, clock, say
        self.start = clock()

    def left(self) -> float:
        return self.seconds - (self.clock() - self.start)

    def run(self) -> None:
        """Everything, in order, until it is done or the time is over. DeviceLost if the GPU is; the document holds."""
        if self.record.results:
            self.say(f"{self.record.path} holds {len(self.record.results)} results of these sources: they stay")
        try:
            self.check_all()
            self.measure_all()
        finally:
            self.record.write()

    def check_all(self) -> None:
        """Small cases of every op in every dtype, judged as `triptych check` judges them."""
        waiting: list[tuple[Result, Future[Verdict]]] = []
        todo = [case for case in self.first if not self.record.has((*identity(case), "triton", None))]
        for case in todo:
            if self.left() <= 0:
                break
            row = self.record.row(case, "triton", None)
            waiting += self.check(case, row)
        for row, verdict in waiting:
            try:
                judged.put(verdict.result(), row)
            except Exception as error:
                judged.refuse(row, judged.sentence(error))
            self.record.put(row)
        self.say(f"checked {len(todo)} small cases, {sum(row.status in BAD for row, _ in waiting)} gave wrong numbers")

    def check(self, case: Case, row: Result) -> Iterator[tuple[Result, Future[Verdict]]]:
        """Run one small case; nothing is yielded where it did not run, as its row says."""
        op = self.record.ops[case.op]
        outputs = None
        if self.is_supported(op, case, row):
            self.ready(case)
            problem = Problem.of(op, case)
            tensors = {name: to_torch(as_held(x), self.device.kind) for name, x in problem.own_inputs().items()}
            held = {name: x.dtype.name for name, x in problem.inputs.items() if as_held(x).dtype != x.dtype}
            constants = {name: x for name, x in problem.case.params.items() if name not in case.params}
            inputs = Inputs(tensors, constants, held)
            outputs = self.ran(row, lambda: calls.by_triton(op, case, inputs, tensors)())
        if outputs is None:
            self.record.put(row)
        else:
            yield row, self.pool.submit(judged.checked, op.name, case, as_arrays(op, case, inputs, outputs))

    def is_supported(self, op: Op, case: Case, row: Result) -> bool:
        reason = BACKENDS["triton"].supports(op, case, None)
        if reason is not None:
            row.status, row.reason, row.cause = Status.UNSUPPORTED, reason, Cause.NOT_SUPPORTED
        return reason is None

    def measure_all(self) -> None:
        missing = {row[:3] for row in self.record.planned if not self.record.has(row) and row not in self.record.small}
        todo = [case for case in self.cases if identity(case) in missing]
        todo.sort(key=lambda case: identity(case) in self.record.at)
        pending: deque[Begun] = deque()
        self.record.write(under_way=todo[:1])
        for i, case in enumerate(todo):
            if self.left() <= 0:
                self.say(f"the time is over: {len(todo) - i} of {len(self.cases)} points are left for another session")
                break
            pending.append(self.begin(case))
            if len(pending) > AHEAD:
                self.end(pending.popleft(), under_way=todo[i + 1 - AHEAD : i + 2])
        while pending:
            self.end(pending.popleft(), under_way=[begun.case for begun in pending])

    def begin(self, case: Case) -> Begun:
        """Draw, run every contender once, and have the pieces of what they computed judged."""
        op = self.record.ops[case.op]
        begun = Begun(op, case, [self.record.row(case, *who) for who in calls.contenders(op, case)])
        new = [row for row in begun.rows if not self.record.has(key(row))]  # what a lost device left is not tried again
        try:
            self.ready(case)
            begun.inputs = draw(op, case, self.device.kind)
            made = {(one.backend, one.target): one for one in calls.made(op, case, begun.inputs)}
        except Exception as error:
            self.fail(new, error)
            return begun
        for row in new:
            contender = made[row.backend, row.target]
            outputs = self.first_run(begun, contender, row)
            if outputs is not None:
                begun.ran.append((contender, row, outputs))
        if begun.ran:
            begun.pieces = parts(op, case, begun.inputs)
        for piece in begun.pieces:
            arrays = {name: begun.inputs.array(name, x) for name, x in piece.inputs.items()}
            cut = [as_arrays(op, case, begun.inputs, piece.cut(outputs)) for *_, outputs in begun.ran]
            bounds = [contender.bounds for contender, *_ in begun.ran]
            begun.verdicts.append(self.pool.submit(judged.verdicts, op.name, piece.case, arrays, cut, bounds))
        return begun

    def first_run(self, begun: Begun, contender: Contender, row: Result) -> dict[str, Any] | None:
        """What a contender computes; None where it does not, and its row says why."""
        if contender.backend == "triton" and not self.is_supported(begun.op, begun.case, row):
            return None
        own = {name: x.clone() for name, x in begun.inputs.tensors.items()}
        outputs = self.ran(row, lambda: contender.prepare(own)())
        if outputs is None:
            return None
        wrong = changed_besides(begun.op, begun.inputs.tensors, own)
        if wrong:
            judged.refuse(row, wrong)
            return None
        return {name: x.detach() for name, x in outputs.items()}

    def ran(self, row: Result, call: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """What a call gives; None if it raises, and its row says so. DeviceLost if the GPU does not survive it."""
        try:
            with BACKENDS[row.backend].launches() as row.launched:
                outputs = call()
            self.device.synchronize()
            return outputs
        except Exception as error:
            judged.refuse(row, judged.sentence(error))
            if row.backend == "torch" and any(text in str(error) for text in NO_KERNEL):
                row.status, row.cause = Status.UNSUPPORTED, Cause.NOT_SUPPORTED
        self.check_device(row)
        return None

    def check_device(self, *rows: Result) -> None:
        """DeviceLost, with the rows written that it was lost in, unless the GPU still answers."""
        try:
            self.device.synchronize()
        except Exception as error:
            for row in rows:
                judged.refuse(row, row.reason or judged.sentence(error), Cause.DEVICE_FAULT)
                self.record.put(row)
            raise DeviceLost(judged.sentence(error)) from error

    def end(self, begun: Begun, under_way: Sequence[Case] = ()) -> None:
        """Wait for the verdicts, time what is right, and write the rows.

        under_way: what is begun, and what comes next.
        """
        found: list[list[Verdict]] = []
        try:
            of_pieces = [future.result() for future in begun.verdicts]
            begun.pieces = [piece for piece, one in zip(begun.pieces, of_pieces, strict=True) if one is not None]
            found = [one for one in of_pieces if one is not None]
        except Exception as error:
            self.fail([row for _, row, _ in begun.ran], error)
            begun.ran.clear()
        sound = []
        for i, (contender, row, outputs) in enumerate(begun.ran):
            if self.is_right(begun, contender, row, [verdicts[i] for verdicts in found], outputs):
                sound.append((contender, row, outputs))
        try:
            time_all(begun.op, begun.case, begun.inputs.tensors, sound, self.device)
        except Exception as error:
            self.fail([row for _, row, _ in sound], error)
            self.check_device(*[row for _, row, _ in sound])
        for row in begun.rows:
            self.record.put(row)
        done = sum(row.timing is not None for row in begun.rows)
        self.say(f"{begun.case.op} {begun.case.name} {begun.case.dtype}: {done} of {len(begun.rows)} timed")
        self.record.write(under_way)
        begun.inputs.tensors.clear()
        begun.ran.clear()
        self.device.release()

    def is_right(
        self, begun: Begun, contender: Contender, row: Result, verdicts: Sequence[Verdict], outputs: Mapping[str, Any]
    ) -> bool:
        """Whether a contender may be timed; its row says how that was found."""
        verdict = judged.worst(verdicts)
        if verdict is not None:
            judged.put(verdict, row)
        if contender.bounds is not None:
            row.notes.append(f"products in {contender.bounds.source}: right within atol {contender.bounds.atol:.3g}")
        rest = judged.unjudged([piece.cut(outputs) for piece in begun.pieces], outputs)
        if rest:
            row.notes.append(f"{' and '.join(rest)} judged at smaller sizes only")
        wrong = self.record.wrong_check(row.op, row.dtype) if row.backend == "triton" else None
        if row.status is Status.PASSED and wrong is not None:
            judged.refuse(row, f"not timed, because its kernel fails the smaller case {wrong.case}", Cause.MISMATCH)
        return row.status is Status.PASSED

    def fail(self, rows: Sequence[Result], error: Exception) -> None:
        for row in rows:
            judged.refuse(row, judged.sentence(error))


def changed_besides(op: Op, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """A sentence on an input that a call changed and may not have, or in more places than it may; empty if none is.

    A cache may change where its new tokens are, `k_new` those of `k_cache`.
    """
    for name, x in before.items():
        different = int((bits(x) != bits(after[name])).sum())
        allowed = after[f"{name[0]}_new"].numel() if name in op.mutates else 0
        if different > allowed:
            return f"input {name} was changed in {different} places, where {allowed} may be"
    return ""


def bits(x: Any) -> Any:
    """A tensor's bytes as integers, in which a NaN equals itself."""
    import torch

    return x.contiguous().view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])
