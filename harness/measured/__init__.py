"""Every public time of an NKI kernel or instruction whose source is public and runs here, as data.

Where a number of the documentation of a version that is older than the kernel's current source was taken, the kernel is
AWS's own port of it to the NKI of today (grade B). The sources cite repositories by commit or release.
"""

from triptych.harness.measured.autotune import AUTOTUNE_POINTS
from triptych.harness.measured.instructions import INSTRUCTION_POINTS
from triptych.harness.measured.ladders import LADDER_POINTS
from triptych.harness.measured.library import LIBRARY_POINTS
from triptych.harness.measured.mamba import MAMBA_POINTS

POINTS = (*LADDER_POINTS, *INSTRUCTION_POINTS, *MAMBA_POINTS, *AUTOTUNE_POINTS, *LIBRARY_POINTS)
