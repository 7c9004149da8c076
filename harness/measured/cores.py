"""A matmul on one core of Trn2 and on two, as a kernel of our own.

Participants of a hackathon divided the columns of AWS's blocked matmul over the two cores of a logical one, and
timed it against the same kernel on one, in turns, by the device's clock (SDK 2.32): bfloat16, accumulated in float32.
"""

from __future__ import annotations

from triptych.harness.measured.records import Call, Ours, Point, Tensor

_LENGTH, _ROWS = 4096, 256
_SOURCE = "yahavb/trainium-agent-labs@7a6bbd4a projects/03-chipboost/P2_STATUS.md, section 2"


def _point(columns: int, cores: int, us: float) -> Point:
    most, tiles = 6, columns // 512 // cores  # of a core: as many at a time as divide them, and at most 6
    operands = Tensor("bfloat16", (_LENGTH, _ROWS)), Tensor("bfloat16", (_LENGTH, columns))
    return Point(
        Call(Ours("product_in_blocks", "products.py"), "trn2", (*operands, 16, min(most, tiles)), cores=cores),
        f"{_ROWS}x{_LENGTH} @ {_LENGTH}x{columns} bfloat16, {cores} core{'s' * (cores > 1)}",
        us,
        f"{us:g} us, median",
        _SOURCE,
        "C",
        "validation",
    )


CORES_POINTS = (_point(6144, 1, 206.5), _point(6144, 2, 131.9), _point(2048, 1, 81.8), _point(2048, 2, 60.2))
