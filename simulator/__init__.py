"""The NKI simulator: runs kernels written for AWS's NKI 0.7 on NumPy, and records what they did.

    from triptych import simulator
    run = simulator.on("trn2").run(kernel, a, b)
    run.outputs, run.trace

This folder has an __init__.py, unlike its neighbours, because `triptych.simulator.run` is a documented name and a
namespace package can hold none; no installed package is called `simulator`, so nothing is hidden by it.
"""

from triptych.simulator.analysis.capacity import MemoryUse, memory_use
from triptych.simulator.chip.record import Chip
from triptych.simulator.chips import CHIPS, TARGETS
from triptych.simulator.engines import COLLECTIVES, INSTRUCTIONS
from triptych.simulator.errors import KernelError, NeedsData, NkiError, NkiValidationError, OutOfBounds, Uninitialized
from triptych.simulator.launch.execution import Run, SimulatorWarning
from triptych.simulator.launch.import_hook import load
from triptych.simulator.launch.kernel import Kernel, jit, simulate
from triptych.simulator.launch.simulator import Simulator, on, predict, run, run_ranks
from triptych.simulator.lint.live import LintWarning
from triptych.simulator.memory.shapes import ShapeDtype
from triptych.simulator.options import Options
from triptych.simulator.timing import Prediction, predict_trace
from triptych.simulator.trace import Event, Region, Trace

__all__ = [
    "CHIPS",
    "COLLECTIVES",
    "INSTRUCTIONS",
    "TARGETS",
    "Chip",
    "Event",
    "Kernel",
    "KernelError",
    "LintWarning",
    "MemoryUse",
    "NeedsData",
    "NkiError",
    "NkiValidationError",
    "Options",
    "OutOfBounds",
    "Prediction",
    "Region",
    "Run",
    "ShapeDtype",
    "Simulator",
    "SimulatorWarning",
    "Trace",
    "Uninitialized",
    "jit",
    "load",
    "memory_use",
    "on",
    "predict",
    "predict_trace",
    "run",
    "run_ranks",
    "simulate",
]
