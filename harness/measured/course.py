"""Short kernels of a course on parallel computing (CS149, fourth assignment), as kernels of our own in vectors.py.

Participants publish what they measured: sums of vectors and a transpose, float32, on one core. On Trn2 two of them keep
neuron-profile's summary (calibration), a third the latencies of neuron-bench (NCL, p99); one on Trn1 keeps latencies.
The compiler took the kernels on Trn2 as they stand (skip_middle_end_transformations); on Trn1 it was free to merge
transfers, so that only kernels of one or two tiles are taken from there. A ring's time is the sum of its packets'.
"""

from __future__ import annotations

from triptych.harness.measured.records import Call, Ours, Point, Quantity, Tensor, Use, active

_SUMMARIES = {  # us: total, sum of the packets over the rings
    "rishic3/asst4-trainium2@ef7e4ef8 part1/profile_view": {
        "1000": (27.858, 131.001),
        "2000": (28.358, 125.037),
        "transpose": (46.853, 390.259),
    },
    "chenhzhu/asst4-trainium2@e30a10f5 part1, summaries": {
        "1000": (26.417, 127.893),
        "2000": (28.905, 128.272),
        "transpose": (46.471, 399.355),
    },
}
_BENCH = "xaviergonzalez/asst4-trainium2@071093b1 writeup.md"
_BENCH_TRN1 = "robertpare17/asst4-trainium@028e80d8 solution.md"


def _sum(target: str, length: int, columns: int) -> tuple[Call, str]:
    shape = (128, length // 128)
    call = Call(Ours("columns_added", "vectors.py"), target, (*[Tensor("float32", shape)] * 2, columns))
    return call, f"{length:,} float32, {columns} a partition"


def _point(call: Call, case: str, us: float, printed: str, source: str, use: Use, what: str = "total") -> Point:
    quantity: Quantity = active("dma") if what.startswith("DMA") else lambda prediction: prediction.total_us
    return Point(call, case, us, printed, source, "C", use, what, quantity, latency=source == _BENCH)


def _profiled(key: str) -> list[Point]:
    """Of one kernel, what both summaries say."""
    if key == "transpose":
        call, case = Call(Ours("transposed", "vectors.py"), "trn2", (Tensor("float32", (1024, 1024)),)), "1024x1024"
    else:
        call, case = _sum("trn2", 256_000, int(key))
    found = []
    for number, (source, runs) in enumerate(_SUMMARIES.items(), 1):
        total, packets = runs[key]
        found += [
            _point(call, case, total, f"{total} us", source, "calibration", f"total, profile {number}"),
            _point(
                call,
                case,
                packets / 16,
                f"{packets} us on 16 rings",
                source,
                "calibration",
                f"DMA rings, mean active, profile {number}",
            ),
        ]
    return found


def _latency(target: str, length: int, columns: int, us: float, source: str) -> Point:
    return _point(*_sum(target, length, columns), us, f"{us:g} us", source, "validation")


_CHUNKS = Call(Ours("chunks_added", "vectors.py"), "trn2", (*[Tensor("float32", (25_600,))] * 2, 128))
COURSE_POINTS = (
    *_profiled("1000"),
    *_profiled("2000"),
    *_profiled("transpose"),
    _point(_CHUNKS, "25,600 float32, 1 a partition", 378, "378 us", _BENCH, "validation"),
    _latency("trn2", 25_600, 2, 186, _BENCH),
    _latency("trn2", 25_600, 200, 15, _BENCH),
    _latency("trn1", 25_600, 200, 19, _BENCH_TRN1),
    _latency("trn1", 256_000, 2000, 34, _BENCH_TRN1),
    _latency("trn1", 256_000, 1000, 30, _BENCH_TRN1),
)
