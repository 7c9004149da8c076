"""How much of an on-chip memory the tensors take that a kernel still holds.

An instruction touches only what its kernel holds. So the most that was ever held is no less than the most that is
alive between the first and the last instruction that touch it, which is what a kernel needs
(triptych.simulator.analysis.capacity); where even that fits, nobody has to look at the trace.
"""

from __future__ import annotations

from triptych.simulator.memory.storage import Storage


class Held:
    """Bytes of a partition that are held now, and the most that ever were, as if no two tensors shared any."""

    __slots__ = ("bytes", "peak")

    def __init__(self) -> None:
        self.bytes = self.peak = 0

    def hold(self, storage: Storage, size: int) -> None:
        """A kernel has a new tensor, until its storage is gone."""
        storage.holder, storage.held = self, size
        self.bytes += size
        if self.bytes > self.peak:
            self.peak = self.bytes
