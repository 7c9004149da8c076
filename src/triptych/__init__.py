"""Triptych: one operation in three panels, a NumPy reference, an NKI kernel and a Triton kernel.

    from triptych import nki, simulator

`triptych.nki` is the simulator's `nki`, whatever else is installed. Kernel files say `import nki`, as on the chip: once
triptych is imported that finds the simulator's, too, unless AWS's own is installed.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych import simulator
    from triptych.harness.ops.case import Case
    from triptych.harness.ops.op import Alone, BatchInvariance, Op
    from triptych.harness.ops.outputs.kinds import Codes, Exact, Float, Output, Points, Unordered
    from triptych.harness.ops.shapes import Input
    from triptych.harness.testing.agreement import assert_agree
    from triptych.harness.testing.api import bench, check
    from triptych.harness.testing.interpretation import interpret
    from triptych.harness.testing.kernel_tests import kernel_tests, parametrize

    nki: Any

__version__ = "0.1.0"
__all__ = [
    "Alone",
    "BatchInvariance",
    "Case",
    "Codes",
    "Exact",
    "Float",
    "Input",
    "Op",
    "Output",
    "Points",
    "Unordered",
    "__version__",
    "assert_agree",
    "bench",
    "check",
    "interpret",
    "kernel_tests",
    "nki",
    "parametrize",
    "simulator",
]

_HOMES = {
    "Alone": "triptych.harness.ops.op",
    "BatchInvariance": "triptych.harness.ops.op",
    "Case": "triptych.harness.ops.case",
    "Codes": "triptych.harness.ops.outputs.kinds",
    "Exact": "triptych.harness.ops.outputs.kinds",
    "Float": "triptych.harness.ops.outputs.kinds",
    "Input": "triptych.harness.ops.shapes",
    "Op": "triptych.harness.ops.op",
    "Output": "triptych.harness.ops.outputs.kinds",
    "Points": "triptych.harness.ops.outputs.kinds",
    "Unordered": "triptych.harness.ops.outputs.kinds",
    "assert_agree": "triptych.harness.testing.agreement",
    "bench": "triptych.harness.testing.api",
    "check": "triptych.harness.testing.api",
    "interpret": "triptych.harness.testing.interpretation",
    "kernel_tests": "triptych.harness.testing.kernel_tests",
    "parametrize": "triptych.harness.testing.kernel_tests",
}
_MODULES = ("jax", "nki", "simulator", "torch")  # jax, torch: not among the names above, as a star import hides theirs


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used: importing triptych alone stays light."""
    if name in _MODULES:
        return importlib.import_module(f"triptych.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'triptych' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


_LENT = ("nki", "neuronxcc", "torch_neuronx", "libtorch_neuronx_lite")


class _NkiFinder:
    """Leaves `nki` and `triptych.nki` to the simulator's import hook, which is loaded when one of them is imported.

    So it does with `neuronxcc`, AWS's compiler, with whose names some kernels annotate, and with `torch_neuronx`, by
    which kernels become operators of PyTorch.
    """

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname.removeprefix("triptych.").partition(".")[0] not in _LENT:
            return None
        from triptych.simulator.launch.import_hook import Finder

        return Finder().find_spec(fullname, path, target)


if not any(f is _NkiFinder for f in sys.meta_path):
    sys.meta_path.insert(0, _NkiFinder)
