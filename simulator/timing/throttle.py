"""The clock of the Tensor Engine: halved until it is kept busy, and again when it is not.

The chip counts, in windows of `warm_up_ns` one behind the other, how long the engine was in use. A window that was used
for `warm_up_use` or more makes its clock whole for the next; one that was used for `cool_down_use` or less halves it.
In between it stays as it was. So a kernel that keeps the engine busy two thirds of the time never gets the whole clock,
and one that had it keeps it. A matmul on some of the array's rows counts as their share of use, and beside others on
more of its rows as the share of them all.
"""

from __future__ import annotations

<<<<<<< HEAD
from triptych.simulator.chip.record import Chip
=======
from collections.abc import Sequence

from triptych.simulator.chip import Chip
>>>>>>> w-tests2


class Throttle:
    """The state of one core's Tensor Engine. Times are nanoseconds."""

    def __init__(self, chip: Chip) -> None:
        self.window = chip.warm_up_ns.value
        self.cold, self.hot = chip.warm_up_slowdown.value, chip.sustained_slowdown.value
        self.warms, self.cools = chip.warm_up_use.value, chip.cool_down_use.value
        self.warm = False  # the clock is whole
        self.ends: float | None = None  # of the window that decides next; none before the first use
        self.used = 0.0  # of that window, until `seen`
        self.seen = 0.0
        self.until = [0.0] * 4  # of each quarter of the array's rows: in use so long
        self.share = [0.0] * 4  # and so much of it

    def time(self, now: float, busy: float, rows: Sequence[float]) -> float:
        """How long a matmul takes that begins now and takes `busy` at the whole clock.

        `rows` has the share of each quarter of the array's rows that it uses. Matmuls begin in the order of time.
        """
        if not self.window:
            return busy
        if self.ends is None:  # where windows begin is chance: the first use comes in the middle of one
            self.ends, self.seen = now + self.window / 2, now
        self._pass(now)
        busy *= self.hot if self.warm else self.cold
        end, ends = now + busy, self.until
        for quarter, share in enumerate(rows):
            if share:  # tiles of the array that use the same rows together count once
                self.share[quarter] = share
                if end > ends[quarter]:
                    ends[quarter] = end
        return busy

    def _pass(self, now: float) -> None:
        """Time passes; the windows that end decide on the clock."""
        assert self.ends is not None
        while self.ends <= now:
            share = (self.used + self._use(self.ends)) / self.window
            self.warm = share > self.cools if self.warm else share >= self.warms
            self.used, self.seen = 0.0, self.ends
            self.ends += self.window
        self.used += self._use(now)
        self.seen = now

    def _use(self, until: float) -> float:
        """How long the array was in use since `seen`, as time of all rows."""
        use, seen = 0.0, self.seen
        for share, end in zip(self.share, self.until, strict=True):
            if end > seen:
                use += share * ((end if end < until else until) - seen)
        return use / 4
