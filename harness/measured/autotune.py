"""Matmuls that nki-autotune generated or collected, 2048 x 2048 x 2048 in bfloat16 on one core of Trn2.

awslabs/nki-autotune keeps its best kernels with the utilization that the profiler estimates, in their file names and in
kernel_library/README.md; one with a latency too shows that it is of 78.64 TFLOP/s and of the profile's total time
(0.2442 ms for 89.47 %). Each kernel is read at the commit that added it. The better ones were compiled with the
compiler's scheduler switched off, so that their order is the program's.
"""

from __future__ import annotations

from triptych.harness.measured.records import Call, InFile, Point, Tensor, utilised_us
from triptych.harness.measured.sources import AUTOTUNE

_N = 2048
_PEAK = 78.64


def _point(commit: str, path: str, function: str, mfu: float, matmuls: int = 1, scheduled: bool = True) -> Point:
    return Point(
        Call(
            InFile(AUTOTUNE, f"kernel_library/{path}_{mfu:.2f}mfu.py", function, commit),
            "trn2",
            (Tensor("bfloat16", (_N, _N)),) * (matmuls + 1),
        ),
        f"{matmuls} x 2048^3 bfloat16",
        utilised_us(mfu, matmuls * 2 * _N**3, _PEAK),
        f"{mfu:.2f} % MFU",
        f"nki-autotune@{commit} kernel_library/README.md",
        "A",
        "validation",
        note="" if scheduled else "compiled without the compiler's scheduler",
    )


AUTOTUNE_POINTS = (
    _point("dcc23bb", "matmul/lhsT_rhs/kernel_hand", "matmul_lhsT_rhs_nkigym", 90.92, scheduled=False),
    _point("0b6f309", "matmul/lhs_rhs/kernel_handtuned", "matmul_lhs_rhs_nkigym", 89.26, scheduled=False),
    _point("160f940", "matmul/lhsT_rhs/kernel_from_manual_ir", "matmul_lhsT_rhs_nkigym", 80.45, scheduled=False),
    _point("b672385", "matmul/lhsT_rhs/kernel_manual", "matmul_ref_2k", 79.05, scheduled=False),
    _point("1d9c2b9", "matmul/lhs_rhsT/kernel_83", "matmul_lhs_rhsT_nkigym", 61.73),
    _point("1d9c2b9", "matmul/lhsT_rhsT/kernel_53", "matmul_lhsT_rhsT_nkigym", 60.57),
    _point("1d9c2b9", "matmul/lhs_rhs/kernel_30", "matmul_lhs_rhs_nkigym", 60.21),
    _point("1d9c2b9", "matmul/lhsT_rhs/kernel_31", "matmul_lhsT_rhs_nkigym", 58.60),
    _point("1d9c2b9", "double_matmul/kernel_4", "double_matmul_nkigym", 54.73, matmuls=2),
)
