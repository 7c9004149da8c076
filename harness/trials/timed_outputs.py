"""Are the calls that a time is made of right? A kernel may be right when it is checked and wrong from some call on.

The clocks hand over what the first, the last and some calls between returned (`TimingBudget.look`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.harness.backends.base import KernelFault
from triptych.harness.bits import first_difference
from triptych.harness.judge.prepared import PreparedCase
from triptych.harness.ops.outputs.naming import Outputs
from triptych.harness.results.status import Status


class TimedOutputs:
    """Compares what timed calls return with what the checked call did.

    checked: the outputs that passed
    """

    def __init__(self, prepared: PreparedCase, checked: Outputs) -> None:
        self.prepared = prepared
        self.checked = {name: x.copy() if isinstance(x, np.ndarray) else x for name, x in checked.items()}

    def __call__(self, returned: Any) -> None:
        """KernelFault if a timed call returned something that does not pass."""
        out = self.prepared.problem.named(returned)
        if all(self.is_checked(name, x) for name, x in out.items()):
            return
        verdict = self.prepared.judge(out)
        if verdict.status is not Status.PASSED:
            raise KernelFault(
                f"right when it was checked, wrong in a call that was timed ({verdict.reason}): it keeps something "
                "from call to call, or races; a time of it says nothing"
            )

    def is_checked(self, name: str, x: Any) -> bool:
        """Whether an output has the bits of the checked one."""
        before = self.checked[name]
        if not isinstance(x, np.ndarray) or not isinstance(before, np.ndarray):
            return x is before
        return first_difference(x, before) is None
