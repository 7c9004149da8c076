"""Where a request is carried out: by worker processes of this machine, or by those of a cluster."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from triptych.harness.running.session import Observer, Session


@contextmanager
def place(arguments: Namespace) -> Iterator[tuple[Session, list[Observer]]]:
    """A session, and who must look on while it runs; a cluster stays connected within."""
    if arguments.session is not None or not arguments.cluster:
        yield arguments.session or Session(), []
        return
    from triptych.harness.cluster.fleet import Fleet

    fleet = Fleet(arguments.cluster, arguments.jobs)
    try:
        yield Session(fleet, missing=fleet.missing), [fleet]
    finally:
        fleet.close()
