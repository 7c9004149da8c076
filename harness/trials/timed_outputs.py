"""Are the calls that a time is made of right? A kernel may be right when it is checked and wrong from some call on.

The clocks hand over what the first, the last and some calls between returned (`TimingBudget.look`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.harness.arrays import Array, from_torch
from triptych.harness.backends.base import KernelFault
from triptych.harness.bits import first_difference
from triptych.harness.judge.prepared import Prepared
from triptych.harness.results.status import Status


class TimedOutputs:
    """Compares what timed calls return with what the checked call did.

    checked: the output that passed
    """

    def __init__(self, prepared: Prepared, checked: Array) -> None:
        self.prepared = prepared
        self.checked = checked.copy()

    def __call__(self, returned: Any) -> None:
        """KernelFault if a timed call returned something that does not pass."""
        out = returned if isinstance(returned, np.ndarray) else from_torch(returned)
        if first_difference(out, self.checked) is None:
            return
        verdict = self.prepared.judge(out)
        if verdict.status is not Status.PASSED:
            raise KernelFault(
                f"right when it was checked, wrong in a call that was timed ({verdict.reason}): it keeps something "
                "from call to call, or races; a time of it says nothing"
            )
