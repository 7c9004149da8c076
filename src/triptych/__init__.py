"""Triptych: one operation in three panels, a NumPy reference, an NKI kernel and a Triton kernel.

Importing it lends `nki` to code that says `import nki` where AWS's own is not installed.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych.harness.ops.case import Case
    from triptych.harness.ops.op import Alone, BatchInvariance, Op
    from triptych.harness.testing.agreement import assert_agree
    from triptych.harness.testing.kernel_tests import kernel_tests, parametrize

__version__ = "0.1.0"
__all__ = ["Alone", "BatchInvariance", "Case", "Op", "__version__", "assert_agree", "kernel_tests", "parametrize"]


class _Lender:
    """Finder that hands over to the simulator's own when somebody imports `nki`, so that importing this stays light.

    It is asked for AWS's compiler, `neuronxcc`, too: some kernels annotate with names of it.
    """

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in ("nki", "neuronxcc"):
            return None
        from triptych.simulator.launch.import_hook import Finder

        return Finder().find_spec(fullname, path, target)


if not any(f is _Lender for f in sys.meta_path):
    sys.meta_path.insert(0, _Lender)


_HOMES = {
    "Alone": "triptych.harness.ops.op",
    "BatchInvariance": "triptych.harness.ops.op",
    "Case": "triptych.harness.ops.case",
    "Op": "triptych.harness.ops.op",
    "assert_agree": "triptych.harness.testing.agreement",
    "kernel_tests": "triptych.harness.testing.kernel_tests",
    "parametrize": "triptych.harness.testing.kernel_tests",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'triptych' has no attribute {name!r}")
