"""What a run is asked for, in the user's words."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from triptych.harness.errors import UsageError
from triptych.harness.judge.bounds import Bounds
from triptych.harness.running.tasks import TIMEOUT_S


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to run, on what, and how to judge it; no name in it has been looked up yet."""

    ops: Sequence[str] = ()  # names or globs; none: all
    sources: Sequence[str] = ()  # the user's files that declare the ops; none: those of this repository
    backends: Sequence[str] = ()  # none: all
    required: Sequence[str] = ()  # backends that must be here; they are run too
    targets: Sequence[str] = ()  # chips to simulate; none: each backend's default
    dtypes: Sequence[str] = ()  # none: the op's
    sets: Sequence[str] = ()  # case sets; none: those of `default_sets` that the ops have
    default_sets: Sequence[str] = ("smoke",)
    names: str | None = None  # a glob of case names
    specs: Sequence[str] = ()  # cases that are written out, as "M=3,K=5,N=7"
    axes: Mapping[str, Sequence[int]] = field(default_factory=dict)  # sizes in place of the cases' own
    seed: int = 0
    timed: bool = False  # whether to time what is right
    stand_ins: Sequence[str] = ()  # case sets whose sizes stand in for larger ones: not predicted, nor interpreted
    no_check: bool = False  # time what is wrong as well
    tune_s: float | None = None  # for each case, to choose among the configurations of Triton launchers first
    tolerance: Bounds | None = None  # None: the environment's, else the op's
    timeout_s: float = TIMEOUT_S
    memory: int | None = None  # bytes a worker; None: a share of what is free
    jobs: int | None = None  # workers at once; None: one a core
    cluster: str | None = None  # the address of the one to run on; None: this machine
    paranoid: bool = False  # guard against kernels that deceive the judge

    @property
    def source(self) -> str | None:
        """The file, for what takes one at most."""
        if len(self.sources) > 1:
            raise UsageError(f"one file at a time: got {', '.join(self.sources)}.")
        return next(iter(self.sources), None)

    @classmethod
    def from_arguments(cls, arguments: Namespace) -> Request:
        """The request of a command line, whose options are called as the fields are."""
        given = {name: getattr(arguments, name) for name in (f.name for f in fields(cls)) if hasattr(arguments, name)}
        return cls(**given, tolerance=bounds("command line", arguments.rtol, arguments.atol, arguments.budget))


def bounds(source: str, rtol: float | None, atol: float | None, budget: float | None) -> Bounds | None:
    """What `source` asks of the tolerance, None if that is nothing."""
    try:
        asked = Bounds(source, rtol, atol, budget)
    except ValueError as error:
        raise UsageError(f"{error}.") from error
    return asked if asked.says_something else None
