"""Why a Triton kernel cannot be faster on GPUs that are not there: rooflines, and how its launches fill the GPU.

    least us = max(operations / peak of the dtype, bytes / bandwidth of the memory)
    waves    = programs launched / (programs that fit on a processor * processors)

The last wave is a part of one as a rule, and takes as long as a whole one: full = waves / ceil(waves) is the share of
the time for which all places are taken, if programs are alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from triptych.harness.accelerators.catalogue import Chip, catalogue
from triptych.harness.emulators.devices import DEVICES
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.ops.work import work_of
from triptych.harness.profiling.ahead_of_time import Compilation, of_case


@dataclass(frozen=True)
class Roofline:
    """The least time of a case on one chip, of its data sheet's peaks."""

    chip: str
    target: str
    least_us: float
    bound: str  # "compute" or "memory"
    bends_at: float  # operations a byte


@dataclass(frozen=True)
class Launched:
    """One kernel of a case on one target, and how its grid fills the GPU; no waves where it does not compile or fit."""

    compilation: Compilation
    waves: float | None = None

    @property
    def full(self) -> float | None:
        return None if self.waves is None else self.waves / math.ceil(self.waves)


@dataclass(frozen=True)
class GpuProfile:
    """What is known of a case without a GPU. flops, bytes: None where the op does not say them."""

    op: str
    case: str
    dtype: str
    flops: int | None
    bytes: int | None
    rooflines: Sequence[Roofline]
    launches: Sequence[Launched]

    @property
    def faults(self) -> list[tuple[Compilation, str]]:
        return [(one.compilation, one.compilation.fault) for one in self.launches if one.compilation.fault]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def profiled(op: Op, case: Case, targets: Sequence[str]) -> GpuProfile:
    """Every launch of a case, compiled for every target, beside the case's rooflines there."""
    work = work_of(op, case)
    flops, moved = work.get("flops"), work.get("bytes")
    launches = [launched(one) for target in targets for one in of_case(op, case, target)]
    known = [] if flops is None or moved is None else list(rooflines(flops, moved, case.dtype, targets))
    return GpuProfile(op.name, case.name, case.dtype, flops, moved, known, launches)


def rooflines(flops: int, moved: int, dtype: str, targets: Sequence[str]) -> Iterator[Roofline]:
    for target in targets:
        for chip in catalogue().compiled_for(target):
            yield roofline(chip, target, flops, moved, dtype)


def roofline(chip: Chip, target: str, flops: int, moved: int, dtype: str) -> Roofline:
    bends_at = chip.bends_at(dtype)
    bound = "compute" if flops > bends_at * moved else "memory"
    return Roofline(chip.title, target, chip.bound_us(flops, moved, dtype), bound, bends_at)


def launched(one: Compilation) -> Launched:
    places = one.kernel.occupancy.programs * DEVICES[one.target].processors if one.kernel else 0
    return Launched(one, one.launched / places if places and one.launched else None)
