"""Attention of a student project on Trn2, of which whole profiles are public, as kernels of our own.

allenkchau/trainium-kernel-fusion keeps what neuron-profile wrote of eight runs: each instruction, each packet of DMA.
Constants of the record of NeuronCore-v3 are taken from them, so that all are for calibration. The kernels are written
for NKI's first version; the ones here do what the profiles show: copies of four transposes at a time, maxima and exp of
scores that are still in PSUM, and scores that go to HBM by Scalar's queue and come back by Sync's.
"""

from __future__ import annotations

from triptych.harness.measured.records import Call, Ours, Point, Tensor

_SOURCE = "allenkchau/trainium-kernel-fusion@d709ddf1 profiling/artifacts"
_TOTALS = {  # us
    ("fused", 512, "bfloat16"): 36.352,
    ("fused", 512, "float32"): 38.092,
    ("fused", 1024, "bfloat16"): 66.206,
    ("fused", 1024, "float32"): 73.289,
    ("baseline", 512, "bfloat16"): 54.277,
    ("baseline", 512, "float32"): 58.710,
    ("baseline", 1024, "bfloat16"): 102.670,
    ("baseline", 1024, "float32"): 116.924,
}
_KERNELS = {"fused": "attention_fused", "baseline": "attention_in_steps"}


def _point(kernel: str, length: int, dtype: str, us: float) -> Point:
    operands = (Tensor(dtype, (128, length)),) * 3
    return Point(
        Call(Ours(_KERNELS[kernel], "attention_in_steps.py"), "trn2", operands),
        f"{length} on {length}, d 128 {dtype}",
        us,
        f"{us:g} us, total_time",
        f"{_SOURCE}/{kernel}_{'bf16' if dtype == 'bfloat16' else 'fp32'}_s{length}",
        "C",
        "calibration",
    )


FUSION_POINTS = tuple(_point(*key, us) for key, us in _TOTALS.items())
