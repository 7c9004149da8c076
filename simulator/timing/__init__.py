"""How long a kernel takes on the chip, and why: pure functions of its trace.

It reads traces, `analysis` and the instructions' costs; what runs a kernel (`launch`) and what shows its time read it.
"""

from triptych.simulator.timing.prediction import Prediction, predict_trace
from triptych.simulator.timing.reading.critical_path import Stall, Step
from triptych.simulator.timing.scheduler import schedule
from triptych.simulator.timing.timeline import Span, Timeline

__all__ = ["Prediction", "Span", "Stall", "Step", "Timeline", "predict_trace", "schedule"]
