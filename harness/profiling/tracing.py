"""A subject on the simulator: what its kernel does, from shapes alone where they decide it."""

from __future__ import annotations

from collections.abc import Callable

from triptych import simulator
from triptych.harness.backends.nki_sim import blaming_the_definition
from triptych.harness.errors import describe
from triptych.harness.profiling.subjects import Arguments, Subject
from triptych.simulator.errors import NeedsData


class InputsFailed(Exception):
    """A subject's arguments could not be made; one sentence."""


def why_failed(error: BaseException, subject: Subject) -> str:
    """One sentence on an exception that came out of `traced`."""
    if isinstance(error, (simulator.NkiError, InputsFailed)):
        return str(error)
    return f"the kernel raised {describe(error)}{subject.at(error)}"


def traced(
    subject: Subject, target: str, on_data: Callable[[NeedsData], object] = lambda needs: None
) -> simulator.Trace:
    """The trace of a kernel; `on_data` hears why shapes do not suffice, before inputs are drawn."""
    try:
        return _run(subject, target, subject.shaped)
    except NeedsData as needs:
        on_data(needs)
        return _run(subject, target, subject.drawn)


def _run(subject: Subject, target: str, arguments: Callable[[], Arguments]) -> simulator.Trace:
    kernel = subject.load()
    try:
        positional, named = arguments()
    except Exception as error:
        raise InputsFailed(f"the inputs could not be made: {describe(error)}") from error
    with blaming_the_definition(kernel):
        return simulator.run(kernel, *positional, target=target, **named).trace
