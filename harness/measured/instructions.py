"""Single instructions and transfers, as kernels of our own in single.py.

The two traces of the overview of DMA (aws-neuron-sdk@81ce03ae nki/get-started/about/nki-dma-overview.rst) load a tile,
take exp of it and store it. One time of each stands in the text or on a label; the others were read off the pictures,
where a pixel is 2.3 and 1.1 ns. Their first activation loads its table.
"""

from __future__ import annotations

from triptych.harness.measured.records import (
    Call,
    Ours,
    Point,
    Quantity,
    Tensor,
    duration,
    pitch,
    until,
    until_last_byte,
)

_OVERVIEW = "aws-neuron-sdk@81ce03ae nki/get-started/about/nki-dma-overview.rst"
_SPEC = "aws-neuron-sdk@81ce03ae nki/library/specs/design-rmsnorm-quant.rst"
_LADDER = "aws-neuron-sdk@81ce03ae nki/guides/tutorials/kernel-optimization.rst"


def _traced(rows: int, columns: int, figure: int, times: tuple[tuple[str, Quantity, float, str], ...]) -> list[Point]:
    call = Call(Ours("exp_of_tile"), "trn2", (Tensor("bfloat16", (rows, columns)),))
    source = f"{_OVERVIEW}, nki-dma-intro-{figure}.png"
    return [
        Point(call, f"{rows}x{columns} bfloat16", ns / 1e3, printed, source, "B", "calibration", what, quantity)
        for what, quantity, ns, printed in times
    ]


def _picture(call: Call, case: str, ns: float, source: str, what: str, quantity: Quantity) -> Point:
    return Point(call, case, ns / 1e3, f"{ns / 1e3:.3g} us on the picture", source, "B", "calibration", what, quantity)


_SUM = Call(Ours("sum_of_squares"), "trn2", (Tensor("bfloat16", (80, 16384)),))
_MAX = Call(Ours("largest_magnitude"), "trn2", (Tensor("bfloat16", (80, 16384)),))
_MATMULS = Call(Ours("chain_of_matmuls"), "trn2", (Tensor("float32", (128, 128)), Tensor("float32", (128, 512)), 64))

INSTRUCTION_POINTS = (
    Point(
        Call(Ours("load"), "trn2", (Tensor("bfloat16", (4, 4096)),)),
        "4x4096 bfloat16",
        1.416,
        "1416 ns",
        f"{_OVERVIEW}, Example 1",
        "A",
        "calibration",
        "load, one ring",
        duration("dma_copy"),
    ),
    *_traced(
        4,
        4096,
        3,
        (
            ("first exp", duration("activation"), 5046, "25,014 to 30,060 ns"),
            ("trigger of the load to exp", until("activation"), 2738, "22,276 to 25,014 ns"),
            ("trigger of the load to the last byte", until_last_byte, 9937, "22,276 to 32,213 ns"),
        ),
    ),
    *_traced(
        128,
        128,
        5,
        (
            ("load, each ring", duration("dma_copy"), 97, "97 ns on the label, 81 to 104 by eye"),
            ("first exp", duration("activation"), 1738, "34,801 to 36,539 ns"),
            ("trigger of the load to exp", until("activation"), 1500, "33,301 to 34,801 ns"),
            ("trigger of the load to the last byte", until_last_byte, 4974, "33,301 to 38,275 ns"),
        ),
    ),
    Point(
        Call(Ours("dependent_activations"), "trn1", (Tensor("float32", (128, 1)), 64)),
        "64 of 1 element",
        0.189,
        "189 ns, 264 cycles",
        "aws-neuron-sdk@81ce03ae nki/deep-dives/nki_perf_guide.rst, Opt #5a",
        "A",
        "calibration",
        "activation to dependent activation",
        pitch("activation"),
    ),
    Point(
        _MATMULS,
        "128x128x512 float32",
        0.8594,
        "2 passes of 429.7 ns",
        f"{_LADDER}, v3 to v5: 28.16 ms for 65,536 passes",
        "A",
        "calibration",
        "matmul to matmul",
        pitch("nc_matmul"),
    ),
    _picture(
        _MATMULS,
        "128x512 float32",
        695,
        f"{_LADDER}, v3-zoom.png",
        "copy from PSUM",
        duration("tensor_copy"),
    ),
    _picture(
        _SUM,
        "80x16384 bfloat16",
        15270,
        f"{_SPEC}, profile_phase_2.png",
        "activation_reduce and its table",
        duration("activation_reduce"),
    ),
    _picture(
        _MAX,
        "80x16384 bfloat16",
        17200,
        f"{_SPEC}, profile_phase_3.png",
        "largest magnitude",
        duration("tensor_scalar_reduce"),
    ),
    _picture(
        _MAX,
        "80x16384 bfloat16",
        8800,
        f"{_SPEC}, profile_phase_3.png",
        "scaling to float8",
        duration("tensor_scalar"),
    ),
)
