"""What the start of an instruction waited for, in words."""

from __future__ import annotations

WAITS = {  # `{}` is the event that decided the start
    "start": "the launch",
    "engine": "its turn after {}",
    "issue": "the issue of {}",
    "data": "the result of {}",
    "overwrite": "{} to be done with what it overwrites",
    "order": "{}, which writes there before it",
    "rings": "DMA rings, which {} occupies",
    "port": "the port that it shares with {}",
    "room": "room on chip, which {} gives back",
    "meeting": "the other core, which does {}",
}


def wait_in_words(why: str, other: str) -> str:
    """The words for a cause, with the event that decided it."""
    return WAITS[why].format(other)
