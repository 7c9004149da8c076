"""Where a request is carried out: by worker processes of this machine, or by those of a cluster."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from triptych.harness.running.session import Observer, Session
from triptych.harness.running.workers.each import Each, Here


@dataclass(frozen=True)
class Place:
    """What carries out what a command line asks for.

    session: runs tasks
    watching: who must look on while it does
    each: evaluates a function, as a prediction is one
    """

    session: Session
    watching: Sequence[Observer]
    each: Each


@contextmanager
def place(arguments: Namespace) -> Iterator[Place]:
    """This machine, or the cluster that the arguments name, which stays connected within."""
    if arguments.session is not None or not arguments.cluster:
        yield Place(arguments.session or Session(), [], Here(arguments.jobs))
        return
    from triptych.harness.cluster.fleet import Fleet

    fleet = Fleet(arguments.cluster, arguments.jobs, lambda line: print(line, file=sys.stderr))
    try:
        yield Place(Session(fleet, missing=fleet.missing), [fleet], fleet.each)
    finally:
        fleet.close()
