"""A matmul on one core of Trn2 whose loads are kept or not, in other shapes than its blocks were sized for, and rows.

The hackathon whose blocked matmul is in cores.py timed more kernels by the device's clock (NeuronCore's trace of each
execution, median of 20 or more; SDK 2.32, NKI 0.6.0), all bfloat16: AWS's first step of the matmul tutorial, from which
its models began, what people and models made of it, the blocked one in shapes that nobody sized its blocks for, and
RMSNorm with the copies that bound it. All stand for one program a logical core, which has two: its authors say that the
other idles, and other participants that it does the same again (kernel_settings.py). One time of the first step is that
of other participants, by a profile of neuron-explorer. Left out are kernels of which only the time is public, those
that move and compute the same as one that is here, and the same kernels timed again.
"""

from __future__ import annotations

from triptych.harness.measured.records import Call, Ours, Point, Tensor

_AT = "yahavb/trainium-agent-labs@{commit} projects/03-chipboost/{file}"
_FIRST = _AT.format(commit="688b21c8", file="results_p2.json")
_SHORT = _AT.format(commit="43ea065c", file="results_p2.json")
_SMALL = _AT.format(commit="04855da6", file="STATUS.md, Timer measurements")
_HELD_OUT = _AT.format(commit="7a6bbd4a", file="results_heldout_matmul.json")
_KEPT = _AT.format(commit="39cccc9a", file="feedback_validation.json")
_HONEST = _AT.format(commit="3fc2d4d7", file="results_p1.json")
_MODEL = _AT.format(commit="b93f3c4b", file="experiments/qwen-winner-replication/results.json")
_TRIAL = _AT.format(commit="92309355", file="experiments/astra-trial/candidate_c_results.json")
_COPIES = _AT.format(commit="b93f3c4b", file="kernels/copy_floor.py")
_SCHEDULED = "yahavb/trainium-agent-labs@b6f2ea10 nki-sched/AGENT.md"

_WIDE, _NARROW = (4096, 256, 6144), (4096, 256, 2048)  # K, M and N of the two products that most kernels were timed on


def _product(kernel: Ours, shape: tuple[int, int, int], *more: object) -> Call:
    length, rows, columns = shape
    operands = Tensor("bfloat16", (length, rows)), Tensor("bfloat16", (length, columns))
    return Call(kernel, "trn2", (*operands, *more))


def _case(shape: tuple[int, int, int], said: str = "") -> str:
    length, rows, columns = shape
    return f"{rows}x{length} @ {length}x{columns} bfloat16{said}"


def _point(call: Call, case: str, us: float, source: str, printed: str = "") -> Point:
    latency = source != _SCHEDULED
    return Point(call, case, us, printed or f"{us:g} us, median", source, "C", "validation", latency=latency)


def _both(name: str, us: float, source: str, said: str = "", arguments: tuple[object, ...] = ()) -> Point:
    kernel = Ours(name, "tiles.py")
    return Point(
        _product(kernel, _WIDE, *arguments),
        f"{_case(_WIDE)} and x{_NARROW[2]}{said}",
        us,
        f"{us:g} us, median",
        source,
        "C",
        "validation",
        "total of both",
        beside=_product(kernel, _NARROW, *arguments),
        latency=True,
    )


def _tiles(shape: tuple[int, int, int], us: float, source: str, printed: str = "") -> Point:
    return _point(_product(Ours("product_of_tiles", "tiles.py"), shape), _case(shape), us, source, printed)


TILES_POINTS = (
    _tiles((512, 256, 1024), 24.8, _SMALL),
    _tiles((512, 256, 2048), 32.5, _SMALL),
    _tiles(_WIDE, 691.7, _FIRST),
    _tiles(_NARROW, 268.8, _FIRST),
    _tiles((6144, 256, 4096), 770.5, _HELD_OUT),
    _tiles((2048, 256, 4096), 230.7, _HELD_OUT),
    _tiles((4096, 512, 2048), 523.1, _HELD_OUT),
    _tiles((4096, 128, 6144), 353.8, _HELD_OUT),
    _tiles((1280, 640, 2560), 156.6, _HELD_OUT),
    _tiles((4096, 1024, 512), 243.8, _HELD_OUT),
    _tiles((4096, 4096, 4096), 7500.0, _SCHEDULED, "7.5 ms"),
    _both("product_of_tiles", 623.1, _KEPT, ", by columns", (True,)),
    _both("product_with_a_kept", 798.4, _KEPT),
    _both("product_with_b_kept", 633.1, _KEPT),
    _both("product_with_b_kept", 633.0, _MODEL, ", all tiles of a in one place", (1, True)),
    _both("product_with_b_kept", 375.8, _TRIAL, ", two tiles wide", (2,)),
    _both("product_in_halves", 960.0, _HONEST),
    _both("product_by_dma_that_computes", 517.1, _HONEST),
    _both("product_of_transposed", 728.3, _HONEST),
)

# By shape, with AWS's caps of 16 x 2 x 8 tiles in a block, with sums as AWS has them, and with caps of 1 x 12 x 4.
_BY_CAPS: dict[tuple[int, int, int], tuple[float, float | None, float]] = {
    (6144, 256, 4096): (272.9, None, 193.2),
    (2048, 256, 4096): (111.2, 108.8, 81.4),
    (4096, 512, 2048): (138.1, 137.8, 137.6),
    (4096, 128, 6144): (277.5, 276.3, 151.2),
    (1280, 640, 2560): (99.9, 98.8, 107.7),
    (4096, 1024, 512): (79.9, 82.5, 203.3),
}


def _blocks(
    shape: tuple[int, int, int], caps: tuple[int, int, int], us: float, source: str, wide: bool = True
) -> Point:
    """Blocks of as many tiles as divide those of the shape and are no more than the caps."""
    length, rows, columns = shape
    tiles = rows // 128, columns // 512, length // 128
    fitted = [max(n for n in range(1, cap + 1) if of % n == 0) for of, cap in zip(tiles, caps, strict=True)]
    said = f", {' x '.join(map(str, fitted))} tiles{'' if wide else ', sums in bfloat16'}"
    call = _product(Ours("product_in_blocks", "products.py"), shape, *fitted, wide)
    return _point(call, _case(shape, said), us, source)


_AWS, _BEST = (16, 2, 8), (1, 12, 4)
SHAPES_POINTS = (
    _blocks(_WIDE, _AWS, 280.4, _FIRST),
    _blocks(_NARROW, _AWS, 104.7, _FIRST),
    *(_blocks(shape, _AWS, us, _HELD_OUT) for shape, (us, _, _) in _BY_CAPS.items()),
    *(_blocks(shape, _AWS, us, _HELD_OUT, wide=False) for shape, (_, us, _) in _BY_CAPS.items() if us),
    *(_blocks(shape, _BEST, us, _HELD_OUT) for shape, (_, _, us) in _BY_CAPS.items()),
)


def _rows(name: str, shape: tuple[int, int], us: float, source: str, *more: object, said: str = "") -> Point:
    x = Tensor("bfloat16", shape)
    weights = (Tensor("bfloat16", (1, shape[1])),) if name == "normalised_by_tiles" else ()
    call = Call(Ours(name, "rows.py"), "trn2", (x, *weights, *more))
    return _point(call, f"{shape[0]}x{shape[1]} bfloat16{said}", us, source)


def _chunks(shape: tuple[int, int], chunks: int, us: float, source: str) -> Point:
    said = f", {chunks} chunk{'s' * (chunks > 1)}"
    return _rows("copied_in_chunks", shape, us, source, chunks, said=said)


COPY_POINTS = (
    _rows("copied_by_tiles", (256, 4096), 20.5, _SHORT),
    _rows("copied_by_tiles", (4096, 128), 51.6, _SHORT),
    _rows("copied_by_tiles", (2048, 4096), 91.3, _FIRST),
    _rows("copied_by_tiles", (32768, 128), 344.2, _FIRST),
    _chunks((256, 4096), 1, 23.2, _COPIES),
    _chunks((4096, 128), 1, 17.8, _COPIES),
    _chunks((2048, 4096), 4, 89.7, _FIRST),
    _chunks((32768, 128), 2, 51.1, _FIRST),
)
NORM_POINTS = (
    _rows("normalised_by_tiles", (256, 4096), 46.8, _SHORT),
    _rows("normalised_by_tiles", (4096, 128), 67.2, _SHORT),
    _rows("normalised_by_tiles", (2048, 4096), 163.1, _FIRST),
    _rows("normalised_by_tiles", (32768, 128), 355.0, _FIRST),
)
