"""The enumerations of `nki.isa`, with NKI's members and values (nki/api/nki/isa/__init__.py)."""

from __future__ import annotations

import functools
from enum import Enum
from typing import Any


class engine(Enum):
    """Engines of a NeuronCore."""

    tensor = 1
    vector = 5
    scalar = 2
    gpsimd = 3
    dma = 4
    sync = 6
    unknown = 0


class reduce_cmd(Enum):
    """What an instruction does with its engine's accumulator registers."""

    idle = 0
    reset = 1
    reduce = 2
    reset_reduce = 3
    load_reduce = 4


class dge_mode(Enum):
    """How DMA descriptors are generated."""

    unknown = 0
    swdge = 1
    hwdge = 2
    none = 3


class oob_mode(Enum):
    """What an out-of-bounds dynamic access does."""

    error = 0
    skip = 1


class matmul_perf_mode(Enum):
    """Performance mode of nc_matmul."""

    none = "none"
    double_row = "double_row"


@functools.total_ordering
class nc_version(Enum):
    """NeuronCore generations. Kernels compare them: what one generation has, the next has too."""

    gen2 = 2
    gen3 = 3
    gen4 = 4

    def __lt__(self, other: nc_version) -> bool:
        return self.value < other.value if isinstance(other, nc_version) else NotImplemented


class dependency(Enum):
    """What an edge between two instructions orders (nki.isa.dependency of NKI 0.7)."""

    runtime = "runtime"  # the consumer waits for the producer, on whatever engines they run
    schedule = "schedule"  # the order of issue alone: no engine waits


class dma_engine(Enum):
    """Which DMA moves data between two cores."""

    dma = 1
    gpsimd_dma = 2


_OF_PARAMETER = {
    **{kind.__name__: kind for kind in (engine, reduce_cmd, dge_mode, oob_mode, dma_engine)},
    "perf_mode": matmul_perf_mode,
}


def named(arguments: dict[str, Any]) -> dict[str, Any]:
    """`arguments` of an instruction with the member of an enumeration for each raw value that one has."""
    return {
        name: _member(_OF_PARAMETER[name], value) if name in _OF_PARAMETER and type(value) in (int, str) else value
        for name, value in arguments.items()
    }


def _member(kind: type[Enum], value: Any) -> Any:
    return next((member for member in kind if member.value == value), value)
