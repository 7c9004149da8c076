"""How far a run is: what is done, in whatever order, and about how long the rest takes."""

from __future__ import annotations

import time


class Remaining:
    """The numbers 0 to `count` - 1, of which some are done.

    at_once: how many are worked on at the same time
    """

    def __init__(self, count: int, at_once: int = 1) -> None:
        self.of, self.at_once = count, at_once
        self.left: dict[int, None] = dict.fromkeys(range(count))
        self.begun = time.monotonic()

    def done(self, number: int) -> None:
        del self.left[number]

    @property
    def count(self) -> int:
        return len(self.left)

    @property
    def first(self) -> int:
        """The first that is not done."""
        return next(iter(self.left))

    def words(self, *more: str) -> str:
        """`[3/9, 4 at once, about 2 min left]`, with `more` facts before the time."""
        at_once = f"{min(self.at_once, self.count)} at once" if min(self.at_once, self.count) > 1 else ""
        facts = (f"{self.of - self.count}/{self.of}", *more, at_once, self.time())
        return f"[{', '.join(filter(None, facts))}]"

    def time(self) -> str:
        """How long the rest takes if it takes as long as what is done; nothing before that can be said."""
        done, elapsed = self.of - self.count, time.monotonic() - self.begun
        if done < 2 or elapsed < 5:
            return ""
        seconds = elapsed / done * self.count
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {max(seconds, 1):.0f} s left"
