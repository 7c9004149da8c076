"""Every public time of an NKI kernel or instruction whose source is public and runs here, as data.

Where a number of the documentation of a version that is older than the kernel's current source was taken, the kernel is
AWS's own port of it to the NKI of today (grade B). The sources cite repositories by commit or release.
"""

from triptych.harness.measured.autotune import AUTOTUNE_POINTS
from triptych.harness.measured.cores import BLOCKS_POINTS, CORES_POINTS
from triptych.harness.measured.course import COURSE_POINTS
from triptych.harness.measured.fusion import FUSION_POINTS
from triptych.harness.measured.instructions import INSTRUCTION_POINTS
from triptych.harness.measured.kernel_settings import STEPS_POINTS, SWEEP_POINTS
from triptych.harness.measured.ladders import LADDER_POINTS
from triptych.harness.measured.library import ATTENTION_POINTS, MLP_POINTS, RMSNORM_POINTS
from triptych.harness.measured.mamba import MAMBA_POINTS
from triptych.harness.measured.rates import RATE_POINTS
from triptych.harness.measured.tiles import COPY_POINTS, NORM_POINTS, SHAPES_POINTS, TILES_POINTS

GROUPS = {
    "AWS's ladders of matmul": LADDER_POINTS,
    "single instructions and transfers": INSTRUCTION_POINTS,
    "single instructions on Trn1": RATE_POINTS,
    "AWS's state space layer": MAMBA_POINTS,
    "short kernels of a course": COURSE_POINTS,
    "a student project's attention": FUSION_POINTS,
    "nki-autotune's matmuls": AUTOTUNE_POINTS,
    "a matmul on one core and on two": CORES_POINTS,
    "the same in all sizes of blocks": BLOCKS_POINTS,
    "the same in other shapes": SHAPES_POINTS,
    "a matmul by its tiles": TILES_POINTS,
    "copies by rows": COPY_POINTS,
    "RMSNorm by rows": NORM_POINTS,
    "AWS's steps of matmul at 2048": STEPS_POINTS,
    "a float32 matmul in all sizes of blocks": SWEEP_POINTS,
    "nki-library's attention": ATTENTION_POINTS,
    "nki-library's RMSNorm and quantization": RMSNORM_POINTS,
    "nki-library's MLP": MLP_POINTS,
}
POINTS = tuple(point for points in GROUPS.values() for point in points)
