"""`nki.language`: what a kernel names that is no instruction: dtypes, buffers, operators, functions, tile sizes.

The functions here compute nothing. Those that do are in the other files of this room: each allocates its result and
issues instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from triptych.simulator.chip.record import Chip
from triptych.simulator.chips import chip_of, default_target
from triptych.simulator.dtypes import TABLE
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.language import (  # noqa: F401
    binary,
    creation,
    movement,
    normalization,
    randomness,
    reductions,
    rounding,
    unary,
)
from triptych.simulator.language.common import FUNCTIONS, declare, function
from triptych.simulator.machine.machine import machine
from triptych.simulator.machine.unwritten import require_written
from triptych.simulator.memory.storage import PSUM, SBUF, MemoryRegion
from triptych.simulator.objects import NKIObject
from triptych.simulator.operands.operands import describe
from triptych.simulator.operands.operators import OPS
from triptych.simulator.running import current
from triptych.simulator.tensors.grids import NkiBlockGrid, NkiGrid, NkiTileGrid
from triptych.simulator.tensors.slicing import DynamicSlice
from triptych.simulator.tensors.tensor import NkiTensor


def _declare_range(name: str, summary: str) -> None:
    def call(start: int, stop: int | None = None, step: int = 1) -> range:
        return range(0, start, step) if stop is None else range(start, stop, step)

    declare(name, summary, call)


_declare_range(
    "affine_range", "Loop whose iterations are independent; an alias of range in NKI 0.6, as are the next two."
)
_declare_range("sequential_range", "Loop whose iterations depend on each other.")
_declare_range("static_range", "Loop that is unrolled.")


@function
def ds(start: int, size: int) -> DynamicSlice:
    """The slice start : start + size."""
    return DynamicSlice(start, size)


@function
def program_id(axis: int = 0) -> int:
    """Which core of the launch grid runs."""
    _check_axis(axis)
    return machine().core


@function
def num_programs(axes: int = 0) -> int:
    """How many cores the launch grid has."""
    _check_axis(axes)
    return machine().cores


@function
def program_ndim() -> int:
    """Dimensions of the launch grid."""
    return 1 if machine().cores > 1 else 0


def _check_axis(axis: int) -> None:
    if axis != 0:
        raise NkiValidationError(f"the launch grid has one axis, 0; got {axis}", source="nki/get-started/about/lnc.rst")


@function
@contextmanager
def no_reorder() -> Iterator[None]:
    """A block whose instructions keep program order, as all do here. It holds no loop that runs on registers.

    Whatever runs inside belongs to it, called functions and inner blocks too (nki/guides/how-to-scheduling-apis.rst).
    """
    m = machine()
    with m.scoped(no_reorder=m.scope.get("no_reorder") or m.opened()):
        yield


@function
def device_print(print_prefix: str, tensor: NkiTensor) -> None:
    """Print the prefix and the values of a tensor in SBUF or HBM, at once."""
    if not isinstance(print_prefix, str):
        raise NkiValidationError(f"print_prefix must be a constant string, got {describe(print_prefix)}")
    if not isinstance(tensor, NkiTensor) or tensor.buffer is PSUM:
        raise NkiValidationError(f"tensor must be in SBUF or HBM, got {describe(tensor)}")
    require_written(machine(), (tensor,))
    print(print_prefix, tensor.shown_values())


def _declare_place(name: str, summary: str, holds: Callable[[MemoryRegion], bool]) -> None:
    def call(buffer: Any) -> bool:
        return isinstance(buffer, MemoryRegion) and holds(buffer)

    declare(name, summary, call)


_declare_place("is_psum", "In PSUM.", lambda buffer: buffer is PSUM)
_declare_place("is_sbuf", "In SBUF.", lambda buffer: buffer is SBUF)
_declare_place("is_hbm", "In HBM, private to a core or shared.", lambda buffer: not buffer.on_chip)
_declare_place("is_on_chip", "In SBUF or PSUM.", lambda buffer: buffer.on_chip)


def _chip() -> Chip:
    """The chip of the kernel that runs; outside a kernel, as in a default argument, that of the default target."""
    m = current.machine
    return chip_of(default_target()) if m is None else m.chip


def _fact(name: str, each: int = 1) -> property:
    """A number of the chip, of bytes in elements of `each`."""
    return property(lambda self: int(getattr(_chip(), name).value) // each)


class TileSize(NKIObject):
    """`nl.tile_size`: limits of the chip that runs the kernel.

    Bytes, and elements of float32, are of one partition.
    """

    pmax = _fact("partitions")
    psum_bank_fmax_bytes = _fact("psum_bank_bytes")
    psum_bank_fmax = psum_fmax = _fact("psum_bank_bytes", 4)  # the second was the name before 0.4.0
    psum_num_banks = property(lambda self: _chip().psum_banks)
    psum_min_align = psum_bank_fmax_bytes  # an address in PSUM starts at a bank (nki/migration/index.rst)
    sbuf_fmax_bytes = total_available_sbuf_size = _fact("sbuf_partition_bytes")  # and the name before 0.4.0
    sbuf_fmax = _fact("sbuf_partition_bytes", 4)
    sbuf_min_align = property(lambda self: 1)  # bytes: no rule for addresses is documented, and none is enforced
    gemm_stationary_fmax = _fact("stationary_fmax")
    # On every generation, though v4 streams up to 4096 (nki/get-started/about/tiling-overview.rst).
    gemm_moving_fmax = property(lambda self: 512)
    bn_stats_fmax = _fact("bn_stats_fmax")

    @property
    def sbuf_size_bytes(self) -> int:
        """Of all partitions."""
        return int(self.sbuf_fmax_bytes * self.pmax)


NAMESPACE: dict[str, Any] = {
    **TABLE,
    **FUNCTIONS,
    **OPS,  # an operator that is also a function is the operator, which can be called
    **{region.name: region for region in MemoryRegion},
    "hbm": MemoryRegion.private_hbm,
    "MemoryRegion": MemoryRegion,
    "NKIObject": NKIObject,
    "NkiTensor": NkiTensor,
    "NkiGrid": NkiGrid,
    "NkiTileGrid": NkiTileGrid,
    "NkiBlockGrid": NkiBlockGrid,
    "DType": str,
    "tile_size": TileSize(),
}
