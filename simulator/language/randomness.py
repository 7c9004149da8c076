"""Random numbers: uniform ones, their seed, and elements set to zero at random; on the Vector Engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triptych.simulator.engines.dma import dma_copy
from triptych.simulator.engines.random_numbers import dropout as vector_dropout
from triptych.simulator.engines.random_numbers import rand2, rng, set_rng_seed
from triptych.simulator.engines.vector.tensor_scalar import tensor_scalar
from triptych.simulator.language.common import KNOWN_ISSUES, function, into, new, result_of, same_dtype, tile
from triptych.simulator.language.creation import by_tiles
from triptych.simulator.language.movement import copy
from triptych.simulator.machine.machine import machine
from triptych.simulator.memory.storage import SBUF, MemoryRegion
from triptych.simulator.operands.operators import OPS
from triptych.simulator.tensors.tensor import NkiTensor


@function
def rand(shape: Sequence[int], dtype: Any, buffer: MemoryRegion = SBUF, name: str = "") -> NkiTensor:
    """A tensor of numbers that are uniform in [0, 1), by rand2 on NeuronCore-v4 and by rng before.

    How NKI turns rng's bits into numbers is not documented; 24 of them times 2^-24 here, all exact in float32. A dtype
    of fewer bits rounds the largest to 1.
    """
    tensor = machine().allocate(shape, dtype, buffer, name)
    if tensor.on_chip:
        _fill(tensor)
    else:
        for part in by_tiles(tensor):
            source = new(part.shape, tensor.dtype)
            _fill(source)
            dma_copy(part, source)
    return tensor


def _fill(dst: NkiTensor) -> None:
    if machine().chip.generation >= 4:
        rand2(dst, 0.0, 1.0)
        return
    drawn = into(new(dst.shape, "uint32"), rng)
    tensor_scalar(drawn, drawn, OPS["right_shift"], 8)
    tensor_scalar(dst, drawn, OPS["multiply"], 2.0**-24)


@function
def random_seed(seed: NkiTensor) -> None:
    """Seed the Vector Engine's generators from a tile (1, 1) of 32 bits; the same seed gives nl.rand the same numbers.

    Before NeuronCore-v4 that is not sure on the hardware, where nl.rand may run on an engine that the seed does not
    reach. Here it draws on Vector, and a note says so.
    """
    m = machine()
    set_rng_seed(seed)
    if m.chip.generation < 4:
        m.note(
            f"nl.random_seed may have no effect on nl.rand on {m.chip.name}, where that may draw on another engine; "
            f"nisa.set_rng_seed and nisa.rng(engine=nisa.engine.vector) belong together ({KNOWN_ISSUES})"
        )


@function
def dropout(x: NkiTensor, rate: Any, dtype: Any = None) -> NkiTensor:
    """x with each element set to zero with probability `rate`, a number or a column (P, 1); in `dtype` or in x's."""
    tile(x=x)
    kept = into(result_of(x, None), vector_dropout, x, rate)
    return kept if same_dtype(x, dtype) else copy(kept, dtype)
