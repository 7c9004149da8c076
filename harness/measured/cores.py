"""AWS's blocked matmul on one core of Trn2, in all sizes of blocks, and on two, as a kernel of our own.

Participants of a hackathon gave it float32 sums and timed it by the device's clock (SDK 2.32): in the 62 sizes of
blocks that they let it have, two products each, and with its columns divided over the two cores of a logical one, in
turns with the same kernel on one. The log has no time of one of the 62.
"""

from __future__ import annotations

from triptych.harness.measured.records import Call, Ours, Point, Tensor

_LENGTH, _ROWS = 4096, 256
_WIDE, _NARROW = 6144, 2048  # columns
_KERNEL = Ours("product_in_blocks", "products.py")
_REPOSITORY, _FOLDER = "yahavb/trainium-agent-labs", "projects/03-chipboost"
_SHARED = f"{_REPOSITORY}@7a6bbd4a {_FOLDER}/P2_STATUS.md, section 2"
_LOGS = f"{_REPOSITORY}@234d0597 and a8f0afad {_FOLDER}/logs/seat-102, core0.log to core3.log, exhaustive sweep"

# Microseconds of both products with 1, 2, 4, 8, 16 and 32 tiles of K in a block, by its tiles of M and of N.
_BOTH: dict[tuple[int, int], tuple[float | None, ...]] = {
    (1, 1): (730.1, 1048.5, 1048.1, 1048.7, 1043.2, 1045.2),
    (1, 2): (651.8, 544.7, 544.1, 566.5, 553.1, 547.1),
    (1, 3): (653.3, 425.7, 426.9, 433.3, 432.3, 423.7),
    (1, 4): (654.8, 360.0, 308.2, 337.0, 333.3),
    (1, 6): (658.3, 355.0, 285.1, 303.9, 311.2),
    (1, 12): (661.0, 357.0, 280.3),
    (2, 1): (658.7, 717.7, 717.2, 717.8, 718.1, 715.0),
    (2, 2): (652.8, 396.6, 383.1, 385.6, 383.0, 381.1),
    (2, 3): (653.3, 374.7, 323.0, 317.0, 309.4, 307.7),
    (2, 4): (None, 380.8, 307.6, 292.0, 290.5),
    (2, 6): (661.1, 371.2, 296.0, 284.6, 291.9),
    (2, 12): (664.8, 373.5, 294.9),
}


def _call(columns: int, m_tiles: int, most: int, k_tiles: int, cores: int = 1) -> Call:
    tiles = columns // 512 // cores  # of a core: as many at a time as divide them
    n_tiles = max(n for n in range(1, most + 1) if tiles % n == 0)
    operands = Tensor("bfloat16", (_LENGTH, _ROWS)), Tensor("bfloat16", (_LENGTH, columns))
    return Call(_KERNEL, "trn2", (*operands, m_tiles, n_tiles, k_tiles), cores=cores)


def _alone(columns: int, cores: int, us: float) -> Point:
    case = f"{_ROWS}x{_LENGTH} @ {_LENGTH}x{columns} bfloat16, {cores} core{'s' * (cores > 1)}"
    call = _call(columns, m_tiles=2, most=6, k_tiles=16, cores=cores)
    return Point(call, case, us, f"{us:g} us, median", _SHARED, "C", "validation", latency=True)


def _both(m_tiles: int, n_tiles: int, k_tiles: int, us: float) -> Point:
    return Point(
        _call(_WIDE, m_tiles, n_tiles, k_tiles),
        f"{_ROWS}x{_LENGTH} @ {_LENGTH}x{_WIDE} and x{_NARROW} bfloat16, {m_tiles} x {n_tiles} x {k_tiles} tiles",
        us,
        f"{us:g} us",
        _LOGS,
        "C",
        "validation",
        "total of both",
        beside=_call(_NARROW, m_tiles, n_tiles, k_tiles),
        latency=True,
    )


CORES_POINTS = (
    _alone(_WIDE, 1, 206.5),
    _alone(_WIDE, 2, 131.9),
    _alone(_NARROW, 1, 81.8),
    _alone(_NARROW, 2, 60.2),
)
BLOCKS_POINTS = tuple(
    _both(m, n, 2**doublings, us)
    for (m, n), times in _BOTH.items()
    for doublings, us in enumerate(times)
    if us is not None
)
