"""The clock of the Tensor Engine: halved until it is kept busy, and again when it is not.

The chip counts, in windows of `warm_up_ns` one behind the other, how long the engine was in use. A window that was used
for `warm_up_use` or more makes its clock whole for the next; one that was used for `cool_down_use` or less halves it.
In between it stays as it was. So a kernel that keeps the engine busy two thirds of the time never gets the whole clock,
and one that had it keeps it. On NeuronCore-v2 it is the other way round: kept busy the engine is slower, on
inf2 by much.
"""

from __future__ import annotations

from triptych.simulator.chip.record import Chip


class Throttle:
    """The state of one core's Tensor Engine. Times are nanoseconds."""

    def __init__(self, chip: Chip) -> None:
        self.window = chip.warm_up_ns.value
        self.cold, self.hot = chip.warm_up_slowdown.value, chip.sustained_slowdown.value
        self.warms, self.cools = chip.warm_up_use.value, chip.cool_down_use.value
        self.warm = False  # it was kept busy
        self.ends: float | None = None  # of the window that decides next; none before the first use
        self.used = 0.0  # of that window
        self.seen = 0.0  # until when that is known

    def time(self, now: float, busy: float) -> float:
        """How long a matmul takes that begins now and takes `busy` at the whole clock."""
        if not self.window:
            return busy
        if self.ends is None:  # where windows begin is chance: the first use comes in the middle of one
            self.ends, self.seen = now + self.window / 2, now
        self._pass(now, False)
        busy *= self.hot if self.warm else self.cold
        self._pass(now + busy, True)  # tiles of the array that are in use together count once
        return busy

    def _pass(self, until: float, in_use: bool) -> None:
        """Time passes, in use or idle; the windows that end decide on the clock."""
        assert self.ends is not None
        while self.ends <= until:
            share = (self.used + in_use * (self.ends - self.seen)) / self.window
            self.warm = share > self.cools if self.warm else share >= self.warms
            self.used, self.seen = 0.0, self.ends
            self.ends += self.window
        self.used += in_use * max(until - self.seen, 0.0)
        self.seen = max(until, self.seen)
