"""The pictures of the README and of docs/, drawn from the code."""

from __future__ import annotations

from collections.abc import Callable

from triptych import simulator
from triptych.harness.ops import loading
from triptych.harness.upkeep.pages.floors import ROOT
from triptych.simulator import ShapeDtype


def matmul() -> str:
    """Which engine does what while `matmul` multiplies 1024 x 1024 x 1024."""
    kernel = loading.load_simulated(ROOT / "kernels" / "nki" / "matmul.py").matmul
    operand = ShapeDtype((1024, 1024), "bfloat16")
    run = simulator.run(kernel, operand, operand, target="trn2")
    return simulator.predict_trace(run.trace).svg()


PICTURES: dict[str, Callable[[], str]] = {"docs/pictures/matmul.svg": matmul}
