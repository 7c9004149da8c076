"""Invariance: does a kernel give the same bits again, and a part of its batch the bits that it has within the batch?

A kernel that passed runs three more times: on other inputs of the same shapes, on the first inputs again, and on a part
of them. The second run shows what is kept from the first: a result cached by shape or by address, a buffer that is
handed out twice, an intermediate that is not computed anew. Its inputs lie in the memory of the first ones, and nobody
knows their reference before it ran. It is judged coarsely, because what is kept is wrong by far more than rounding. The
third must repeat the first, bit for bit, unless the op says that it need not; what ran in between makes it the harder
test. The last checks the op's promise about its batch (`Alone`).

A kernel that takes long is repeated in one case alone, and from its second run on only if that was quick: a first call
may have compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from msgspec import structs

from triptych.harness.arrays import Array, Arrays
from triptych.harness.backends.base import KernelFault
from triptych.harness.judge import truth
from triptych.harness.judge.comparison import compare
from triptych.harness.judge.tolerance import LOCAL_LIMIT, Expected
from triptych.harness.ops.case import Case
from triptych.harness.ops.inputs import make_inputs
from triptych.harness.ops.op import Alone, Op
from triptych.harness.results.findings import Alone as AloneFound
from triptych.harness.results.findings import Invariance, Runs
from triptych.harness.results.measures import Derived

LONGEST_S = 2.0  # kernels that ran longer are repeated in one case, and then on other inputs alone
COARSE, COARSE_SHARE = 0.01, 64.0  # relative L2 error that rounding does not explain, and in multiples of the bound
MUCH_MORE = 8.0  # times the first run's error, which a loose tolerance may have let pass
ONE_COARSE, ONE_SHARE = 0.05, 8.0  # likewise of one element: the share of itself, and in multiples of its bound
ORDER = {"triton-cpu": " with the programs of each launch in reverse order"}
NOT_OURS = ("numpy", "torch")  # backends whose panels promise no bits: what a kernel is compared with

Run = Callable[[Case, Arrays], Array]


@dataclass
class Repeats:
    """What the further runs showed: for the JSON, and a sentence with whether it is an error if a promise is broken."""

    found: Invariance = Invariance()
    fault: str | None = None  # the kernel keeps state: an error
    broken: str | None = None  # a promise of bits is broken: a failure

    def note(self, **found: Any) -> None:
        """Add to what was found."""
        self.found = structs.replace(self.found, **found)


@dataclass
class Repeater:
    """Repeats the kernels of one case."""

    op: Op
    case: Case
    inputs: Arrays
    expected: Expected

    def repeated(
        self, backend: str, out: Array, run: Run, run_again: Run, seconds: float, though_slow: bool = True
    ) -> Repeats:
        """Run a kernel that took `seconds` for `out` again; `run` and `run_again` run it on a case and inputs."""
        repeats = Repeats()
        first = out.copy()
        slow = f"the first run took {seconds:.1f} s; what takes over {LONGEST_S:g} s runs"
        if seconds > LONGEST_S and not though_slow:
            repeats.note(skipped=f"{slow} once, except in one case")
            return repeats
        started = perf_counter()
        repeats.fault, repeats.broken = self.on_other_inputs(run, first, out)
        if repeats.fault or repeats.broken:
            return repeats
        repeats.note(other_inputs=True)
        if seconds > LONGEST_S and perf_counter() - started > LONGEST_S:
            repeats.note(skipped=f"{slow} again on other inputs alone")
            return repeats
        again = run_again(self.case, self.inputs)
        promised = self.op.repeatable and backend not in NOT_OURS
        wrong = differing(first, again)
        repeats.note(runs=Runs(identical=wrong is None, promised=promised))
        if wrong is not None and promised:
            repeats.broken = (
                f"two runs on the same inputs differ in {wrong[0]} of {first.size} elements, the first at {wrong[1]}: "
                f"{value(first, wrong[1])} then {value(again, wrong[1])}{ORDER.get(backend, '')}; look for a race, an "
                "uninitialised read or atomic adds, or declare the op with repeatable=False if it need not repeat its "
                "bits"
            )
        elif self.op.alone is not None:
            self.alone(self.op.alone, backend, first, run, repeats)
        return repeats

    def on_other_inputs(self, run: Run, first: Array, out: Array) -> tuple[str | None, str | None]:
        """Run on other inputs; what is kept from the first run, or else what is wrong of the second, in a sentence."""
        with refilled(self.inputs, make_inputs(self.op, self.case, draw=1)) as (inputs, filled):
            result = run(self.case, inputs)
        if differing(first, out) is not None or np.may_share_memory(result, out):
            return (
                "the kernel returns a buffer that its next call overwrites: whoever holds the first result finds the "
                "second in it; allocate the output in each call"
            ), None
        if result.shape != first.shape or result.dtype != first.dtype:
            return f"a second call returns {result.dtype}{list(result.shape)} for inputs of the same shapes", None
        same = differing(result, first) is None
        if not same and sum(x.size for x in filled.values()) > LOCAL_LIMIT:
            return None, None  # another result, which is not worth its reference
        reference = truth.reference_of(self.op, self.case, filled)
        rounded = truth.rounded_reference(self.case, reference)
        if differing(rounded, self.expected.rounded) is None:
            return None, None  # the other inputs lead to the same result
        if same:
            return (
                "the kernel returned the result of its first call for other inputs of the same shapes: it keeps a "
                "result by shape or address, or never writes its output; compute from the arguments of each call"
            ), None
        wrong = self.coarsely_wrong(first, result, replace(self.expected, reference=reference, rounded=rounded))
        return None, wrong and (
            f"right on its first inputs, wrong on others of the same shapes and regime ({wrong}): it keeps something "
            "of its first call, as a converted or transposed input, or is right for some numbers alone"
        )

    def coarsely_wrong(self, first: Array, result: Array, expected: Expected) -> str | None:
        """How far off a result on other inputs is, in words, if it is by more than rounding explains."""
        tolerance = self.expected.tolerance
        allowed = tolerance.rel_l2 if isinstance(tolerance, Derived) else 0.0
        off = coarse_error(result, expected.reference, expected.rounded)
        before = coarse_error(first, self.expected.reference, self.expected.rounded)
        if off > max(COARSE, COARSE_SHARE * allowed, MUCH_MORE * before):
            return f"relative L2 error {off:.2g}" if np.isfinite(off) else "not finite where the reference is"
        then, now = (compare(x, replace(e, unit=None)) for x, e in ((first, self.expected), (result, expected)))
        usual = max(1.0, float(then.share.max(initial=0.0)), larger(expected.reference, self.expected.reference))
        one = (now.share > ONE_SHARE * usual) & (now.error > ONE_COARSE * now.magnitude)
        if not one.any():
            return None
        at = [int(i) for i in np.unravel_index(int(np.argmax(one)), one.shape)]
        return (
            f"{int(one.sum())} of {one.size} elements, the first at {at}: expected {value(expected.rounded, at)}, got "
            f"{value(result, at)}"
        )

    def alone(self, promise: Alone, backend: str, first: Array, run: Run, to: Repeats) -> None:
        """Run a part of the batch by itself and compare its bits with those within the batch."""
        together = promise.promised.get(backend, 1)
        size = self.case.axes[promise.axis]
        if size <= together:
            return
        start = size // together // 2 * together
        part = slice(start, start + together) if start + together <= size else slice(size - together, size)

        def cut(x: Array, axis: int) -> Array:
            return np.ascontiguousarray(x[(slice(None),) * axis + (part,)])

        smaller = replace(self.case, axes={**self.case.axes, promise.axis: together})
        inputs = {
            name: cut(x, promise.inputs[name]) if name in promise.inputs else x for name, x in self.inputs.items()
        }
        truth.remember(smaller, inputs, cut(self.expected.reference, promise.out))
        within, apart = cut(first, promise.out), run(smaller, inputs)
        wrong = differing(within, apart)
        promised = backend in promise.promised
        what = f"{promise.axis} = {part.start}" + (f"-{part.stop - 1}" if together > 1 else "")
        to.note(alone=AloneFound(axis=promise.axis, part=what, identical=wrong is None, promised=promised))
        if wrong is not None and promised:
            to.broken = (
                f"{what} computed alone differs from the same within a batch of {size}, in {wrong[0]} of "
                f"{within.size} elements, the first at {wrong[1]}: {value(within, wrong[1])} within, "
                f"{value(apart, wrong[1])} alone; the op promises the same bits ({promise.why}); look for tiles, "
                f"splits or sums that depend on {promise.axis}, or promise it of whole tiles, or not at all"
            )


@contextmanager
def refilled(inputs: Arrays, other: Arrays) -> Iterator[tuple[Arrays, Arrays]]:
    """`inputs` with the contents of `other` in their memory, and a copy of them; where they do not fit, `other`."""
    if not all(x.shape == other[name].shape and x.flags.writeable for name, x in inputs.items()):
        yield other, other
        return
    before = {name: x.copy() for name, x in inputs.items()}
    try:
        for name, x in inputs.items():
            x[...] = other[name]
        filled = {name: x.copy() for name, x in inputs.items()}
        yield inputs, filled
        for name, x in inputs.items():
            if differing(x, filled[name]) is not None:
                raise KernelFault(f"the kernel changed its input {name}")
    finally:
        for name, x in inputs.items():
            x[...] = before[name]


def larger(a: Array, b: Array) -> float:
    """How much larger the largest finite element of `a` is than that of `b`."""
    sizes = [float(np.abs(x[np.isfinite(x)]).max(initial=0.0)) for x in (a, b)]
    return sizes[0] / sizes[1] if sizes[1] else 1.0


def coarse_error(result: Array, reference: Array, rounded: Array) -> float:
    """The relative L2 error where the reference is finite; infinite if the result is not finite there."""
    finite = np.isfinite(rounded.astype(np.float64))
    wide, reference = result.astype(np.float64)[finite], reference[finite]
    if not np.isfinite(wide).all():
        return float("inf")
    norm = float(np.linalg.norm(reference))
    return float(np.linalg.norm(wide - reference)) / norm if norm else 0.0


def differing(a: Array, b: Array) -> tuple[int, list[int]] | None:
    """How many elements have other bits, and the first; None if none. All NaNs count as one."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return max(a.size, b.size), [0] * a.ndim
    bits = f"u{a.dtype.itemsize}"
    other = np.ascontiguousarray(a).view(bits) != np.ascontiguousarray(b).view(bits)
    if other.any():
        other &= ~(np.isnan(a.astype(np.float64)) & np.isnan(b.astype(np.float64)))
    if not other.any():
        return None
    first = np.unravel_index(int(np.argmax(other)), other.shape)
    return int(other.sum()), [int(i) for i in first]


def value(x: Array, at: list[int]) -> str:
    return f"{float(x[tuple(at)]):.9g}"
