"""How long a kernel takes on the chip, and why: pure functions of its trace.

hazards     which event waits for which
work        what each event asks of the chip
room        when a tensor has room on chip
scheduler   when each event runs
prediction  what that says about the kernel
flops       what its matmuls compute
advice      what the numbers show could be better
occupancy   how full the memories are
"""

from triptych.simulator.timing.prediction import Prediction, Stall, Step, predict, predict_trace
from triptych.simulator.timing.scheduler import schedule
from triptych.simulator.timing.timeline import Span, Timeline

__all__ = ["Prediction", "Span", "Stall", "Step", "Timeline", "predict", "predict_trace", "schedule"]
