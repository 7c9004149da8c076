"""Where a kernel leaves its float32 replay: one run as it is and one that keeps low precision in float32, in lockstep.

Both runs execute the same instructions. After each, what it wrote in the one is compared with what it wrote in the
other, and the first whose relative L2 difference is more than a bound is named, with what it read. Beside it, the first
instruction that made a NaN or an infinity out of operands that had none.

What this finds is precision and range. A wrong index, mask or scale does the same in both runs and leaves no trace
here. Numbers of 1e30 and more stand for "masked" in many kernels, and neither count as different nor as large.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.results.findings import Instruction
from triptych.simulator import INSTRUCTIONS, Event, Options
from triptych.simulator.errors import show_line

SENTINEL = 1e30
AHEAD = 4  # instructions that the replay may be ahead, which bounds the memory
Play = Callable[[Options], Any]  # runs the kernel
Strange = Callable[[Array], Array]  # which values are NaN, or not finite


def _not_finite(values: Array) -> Array:
    return ~np.isfinite(values)


@dataclass
class Finding:
    """An instruction and what is remarkable about its result."""

    event: Event
    number: int
    reads: list[str]
    writes: list[str]
    difference: float = 0.0

    def record(self, difference: float | None = None) -> Instruction:
        """The form that a document holds."""
        return Instruction(
            instruction=self.name,
            line=show_line(self.event.line),
            number=self.number,
            reads=self.reads,
            writes=self.writes,
            difference=difference,
        )

    @property
    def name(self) -> str:
        return f"{'nisa' if self.event.op in INSTRUCTIONS else 'ncc'}.{self.event.op}"

    def __str__(self) -> str:
        source = f" from {' and '.join(self.reads)}" if self.reads else ""
        made = f"makes {' and '.join(self.writes)}{source}"
        return f"{self.name} at {show_line(self.event.line)} (instruction {self.number}) {made}"


@dataclass
class Divergence:
    """What two runs in lockstep have shown."""

    instructions: int = 0
    first: Finding | None = None  # beyond the bound
    largest: float = 0.0  # of the differences before it
    nan: Finding | None = None
    infinity: Finding | None = None
    stopped: str | None = None  # why the comparison ended early
    _ranges: dict[Any, str] = field(default_factory=dict)
    _spoiled: dict[Strange, set[int]] = field(default_factory=lambda: {np.isnan: set(), _not_finite: set()})
    #   allocations that have held such values


class _Stop(BaseException):
    """Ends the replay; no kernel catches it."""


def bisect(play: Play, bound: float) -> Divergence:
    """Run the kernel twice, side by side; `bound` is the relative L2 difference that a result may have."""
    replayed: queue.Queue[Any] = queue.Queue(AHEAD)
    done = threading.Event()

    def show(event: Event, reads: Sequence[Any], writes: Sequence[Any]) -> None:
        values = [np.array(t.f32()) if comparable(t) else None for t in writes]
        if not put_when_room(replayed, done, (event.op, event.line, values)):
            raise _Stop

    def replay() -> None:
        try:
            with np.errstate(all="ignore"):
                play(Options(round_low_precision=False, lint=False, observe=show))
        except _Stop:
            pass
        except Exception as error:
            put_when_room(replayed, done, error)

    found = Divergence()

    def compare(event: Event, reads: Sequence[Any], writes: Sequence[Any]) -> None:
        found.instructions += 1
        _watch(found, event, reads, writes)
        if found.first is None and found.stopped is None:
            _compare(found, event, reads, writes, _next(replayed, thread), bound)
        _remember(found, writes)

    thread = threading.Thread(target=replay)
    thread.start()
    try:
        play(Options(lint=False, observe=compare))
    finally:
        done.set()
        thread.join()
    return found


def put_when_room(replayed: queue.Queue[Any], done: threading.Event, item: Any) -> bool:
    """Whether an item was put, as soon as there was room; not if nobody waits for it any more."""
    while not done.is_set():
        with contextlib.suppress(queue.Full):
            replayed.put(item, timeout=0.05)
            return True
    return False


def _next(replayed: queue.Queue[Any], thread: threading.Thread) -> Any:
    """The replay's next instruction; None if it has none."""
    while True:
        try:
            return replayed.get(timeout=0.05)
        except queue.Empty:
            if not thread.is_alive() and replayed.empty():
                return None


def comparable(tensor: Any) -> bool:
    return bool(tensor.dtype.is_float) and tensor.dtype.kind != "x"


def _compare(
    found: Divergence, event: Event, reads: Sequence[Any], writes: Sequence[Any], other: Any, bound: float
) -> None:
    if other is None or isinstance(other, Exception):
        found.stopped = f"the replay in float32 ended at {event.label}" + (f": {other}" if other else "")
        return
    op, line, values = other
    if (op, line) != (event.op, event.line):
        found.stopped = f"the replay in float32 takes another path from {event.label} on"
        return
    for tensor, value in zip(writes, values, strict=True):
        if value is None:
            continue
        difference = distance(tensor.f32(), value)
        if difference > bound:
            found.first = _finding(found, event, reads, writes, difference)
            return
        found.largest = max(found.largest, difference)


def distance(a: Array, b: Array) -> float:
    """||a - b|| / ||b||; infinite where only one of them is NaN, or a is infinite and b an ordinary number."""
    ordinary = np.abs(b) < SENTINEL
    if np.any(np.isnan(a) != np.isnan(b)) or np.any(np.isinf(a) & ordinary):
        return float("inf")
    both = ordinary & np.isfinite(a)
    b = b[both].astype(np.float64)
    error = float(np.linalg.norm(a[both] - b))
    return error / max(float(np.linalg.norm(b)), np.finfo(np.float64).tiny) if error else 0.0


def _watch(found: Divergence, event: Event, reads: Sequence[Any], writes: Sequence[Any]) -> None:
    """Note the first NaN and the first infinity that come out of operands without one."""
    if found.nan is not None or not reads:
        return
    for tensor in writes:
        if not comparable(tensor):
            continue
        values = tensor.f32()
        if np.isfinite(values).all():
            continue
        has_nan = bool(np.isnan(values).any())
        if has_nan and not any(_was_strange(found, t, writes, np.isnan) for t in reads):
            found.nan = _finding(found, event, reads, writes)
        elif found.infinity is None and not any(_was_strange(found, t, writes, _not_finite) for t in reads):
            found.infinity = _finding(found, event, reads, writes)


def _was_strange(found: Divergence, tensor: Any, writes: Sequence[Any], strange: Strange) -> bool:
    """Whether an operand had strange values; of one that was overwritten in place, whether its memory ever had any."""
    if not comparable(tensor):
        return False
    if any(tensor.storage is w.storage for w in writes):
        return tensor.region.allocation.id in found._spoiled[strange]
    return bool(strange(tensor.f32()).any())


def _remember(found: Divergence, writes: Sequence[Any]) -> None:
    """Keep the ranges of what was written, for an instruction that overwrites it."""
    for tensor in writes:
        if comparable(tensor):
            found._ranges[tensor.region] = describe(tensor)
            for strange, allocations in found._spoiled.items():
                if strange(tensor.f32()).any():
                    allocations.add(tensor.region.allocation.id)


def _finding(
    found: Divergence, event: Event, reads: Sequence[Any], writes: Sequence[Any], difference: float = 0.0
) -> Finding:
    made = [form(t) for t in writes]
    return Finding(event, found.instructions, _operands(found, reads, writes), made, difference)


def _operands(found: Divergence, reads: Sequence[Any], writes: Sequence[Any]) -> list[str]:
    words = []
    for tensor in reads:
        if comparable(tensor) and any(tensor.storage is w.storage for w in writes):
            words.append(found._ranges.get(tensor.region, f"{form(tensor)} (overwritten in place)"))
        else:
            words.append(describe(tensor))
    return words


def form(tensor: Any) -> str:
    return f"{tensor.dtype}[{', '.join(map(str, tensor.shape))}]"


def describe(tensor: Any) -> str:
    """A tensor's dtype, shape and range, as "float32[128, 512] in [-3.1, 2.9]"."""
    if not comparable(tensor):
        return form(tensor)
    values = tensor.f32()
    numbers = values[~np.isnan(values)]
    nans = values.size - numbers.size
    inside = f" in [{numbers.min():.3g}, {numbers.max():.3g}]" if numbers.size else ""
    return f"{form(tensor)}{inside}" + (f" with {nans} NaN" if nans else "")
