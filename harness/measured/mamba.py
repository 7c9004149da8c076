"""The fused Mamba layer of AWS's tutorial on NeuronCore-v2, float32, batch 1, 16 states.

The numbers are those of the tutorial's first NKI (profiles and nki.benchmark, releases 2.20 to today). Its ports to the
NKI of today broadcast otherwise, so a kernel of our own in scan.py stands for the measured program. That products
spread B and C is seen in the profiles. That delta u is worked out once for all states in v2 and v3 is inferred: anew
for each, the Vector Engine alone would need longer than v2 took. The table's v2 for longer sequences spilled to HBM,
which the model does not do, and is left out.
"""

from __future__ import annotations

from triptych.harness.measured.records import Call, Ours, Point, Quantity, Tensor, active

_PAGE = "aws-neuron-sdk@81ce03ae nki/guides/tutorials/fused_mamba.rst"
_STATES = 16
_V3_MS = {1024: 3.3, 2048: 6.6, 3072: 10.1, 4096: 13.3, 5120: 17.3, 6144: 19.6, 7168: 24.2, 8192: 27.8}


def _call(function: str, channels: int, length: int) -> Call:
    sizes = [(channels, length), (channels, length), (channels, _STATES), (_STATES, length), (_STATES, length)]
    return Call(Ours(function, "scan.py"), "trn1", tuple(Tensor("float32", size) for size in sizes))


def _profiled(version: str, call: Call, channels: int, us: float, vector_us: float) -> list[Point]:
    """Total and occupation of the Vector Engine, of 512 steps."""
    case = f"{channels} channels x 512 float32"
    measured: tuple[tuple[str, float, Quantity], ...] = (
        ("total", us, lambda prediction: prediction.total_us),
        ("Vector Engine active", vector_us, active("vector")),
    )
    return [
        Point(call, case, t, f"{t:g} us, {version}", _PAGE, "C", "calibration", what, quantity)
        for what, t, quantity in measured
    ]


MAMBA_POINTS = (
    *_profiled("mamba_v1", _call("scan_states_outside", 256, 512), 256, 172.93, 148.99),
    *_profiled("mamba_v1", _call("scan_states_outside", 4096, 512), 4096, 2340, 2120),
    *_profiled("mamba_v2", _call("scan_states_inside", 4096, 512), 4096, 1610, 1570),
    *(
        Point(
            _call("scan_states_inside", 4096, length),
            f"4096 channels x {length} float32",
            ms * 1e3,
            f"{ms} ms, mamba_v3",
            f"{_PAGE}, table at the end",
            "C",
            "calibration",
        )
        for length, ms in _V3_MS.items()
    ),
)
