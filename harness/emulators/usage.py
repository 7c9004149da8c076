"""What a kernel uses of what the emulators' self-tests try, so that a wrong result can be blamed on the emulator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from triptych.harness.emulators.conformance import Tested

if TYPE_CHECKING:
    from triptych.simulator import Event

SPELLED: dict[str, tuple[str, ...]] = {  # how a Triton kernel may write an operation
    "dot": ("tl.dot(",),
    "sum": ("tl.sum(",),
    "max": ("tl.max(",),
    "min": ("tl.min(",),
    "argmax": ("tl.argmax(",),
    "exp": ("tl.exp(", "tl.math.exp("),
    "exp2": ("tl.exp2(", "tl.math.exp2("),
    "sqrt": ("tl.sqrt(", "tl.math.sqrt("),
    "where": ("tl.where(",),
    "minimum": ("tl.minimum(",),
    "maximum": ("tl.maximum(",),
    "absolute": ("tl.abs(",),
    "transpose": ("tl.trans(",),
    "reshape": ("tl.reshape(", ".reshape("),
    "broadcast": ("tl.broadcast_to(",),
}


def issued_cells(events: Iterable[Event]) -> set[tuple[str, str]]:
    """What a kernel did, as the simulator's self-test calls it: ("tensor_reduce add", "bfloat16").

    The dtype is that of the first operand.
    """
    found = set()
    for event in events:
        of = event.attributes.get("op", ())
        names = [event.op, *(f"{event.op} {word}" for word in ((of,) if isinstance(of, str) else of))]
        found |= {
            (name, str(region.allocation.dtype)) for name in names for region in (event.reads or event.writes)[:1]
        }
    return found


def wrong_among(tested: Tested | str | None, cells: set[tuple[str, str]]) -> list[str]:
    """Of what a kernel did, what its emulator gets wrong: "reciprocal float32"."""
    known = tested.cells if isinstance(tested, Tested) else {}
    return [" ".join(cell) for cell, right in known.items() if not right and cell in cells]


def wrong_in_source(tested: Tested | str | None, dtype: str, source: str | None) -> list[str]:
    """What the interpreter gets wrong in a dtype and a kernel's source may use.

    An operation without a name of its own, as +, is taken to be used; so are all without a source.
    """
    known = tested.cells if isinstance(tested, Tested) else {}
    wrong = [operation for (operation, tried), right in known.items() if tried == dtype and not right]
    return [
        name for name in wrong if source is None or name not in SPELLED or any(word in source for word in SPELLED[name])
    ]
