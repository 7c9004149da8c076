"""Which ranks take part in a collective: replica groups, and the rings that run through them."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.machine import Machine
from triptych.simulator.objects import NKIObject

Ranks = tuple[int, ...]
_API = "nki/api/nki/collectives/__init__.py"


class ReplicaGroup(NKIObject):
    """Lists of ranks without overlap; a collective runs in each list on its own (nki.collectives.ReplicaGroup).

    The order within a list is the order of the collective: the first rank's part comes first.
    """

    def __init__(self, replica_groups: Sequence[Sequence[int]]) -> None:
        self.replica_groups = _groups(replica_groups)
        seen: set[int] = set()
        for ranks in self.replica_groups:
            twice = seen.intersection(ranks) or {r for r in ranks if ranks.count(r) > 1}
            if not ranks or twice or min(ranks) < 0:
                raise NkiValidationError(
                    f"a ReplicaGroup is lists of ranks from 0 on, none empty and no rank twice; got {replica_groups}",
                    source=f"{_API}, ReplicaGroup",
                )
            seen.update(ranks)

    def __repr__(self) -> str:
        return f"ReplicaGroup({[list(ranks) for ranks in self.replica_groups]})"


def _groups(lists: Any) -> tuple[Ranks, ...]:
    try:
        return tuple([tuple([operator.index(rank) for rank in ranks]) for ranks in lists])
    except TypeError:
        raise NkiValidationError(
            f"a ReplicaGroup is lists of ranks, [[0, 1], [2, 3]]; got {lists!r}", source=f"{_API}, ReplicaGroup"
        ) from None


def group_of(m: Machine, group: Any) -> Ranks:
    """The ranks that this rank takes part with, in their order.

    A rank in no list must not call: what it would do is not documented, and nki.collectives tells to keep a rank that
    has nothing to send in the group (all_to_all_v).
    """
    if not isinstance(group, ReplicaGroup):
        raise NkiValidationError(f"replica_group must be an ncc.ReplicaGroup, got {group!r}")
    for ranks in group.replica_groups:
        check_ranks(m, ranks, group)
    for ranks in group.replica_groups:
        if m.rank in ranks:
            return ranks
    raise NkiValidationError(f"rank {m.rank} calls and is in no list of {group!r}")


def check_ranks(m: Machine, ranks: Sequence[int], where: Any) -> None:
    """Each of `ranks` runs."""
    absent = [rank for rank in ranks if not 0 <= rank < m.ranks]
    if absent:
        runs = "one rank runs, 0" if m.ranks == 1 else f"ranks 0 to {m.ranks - 1} run"
        raise NkiValidationError(
            f"{where!r} names rank {absent[0]}, and {runs}; simulator.run_ranks(kernel, [arguments of each rank]) runs "
            "more"
        )


def direction(channel: int) -> int:
    """Where a ring goes on a channel: to the next rank of the group (1), and on odd channels to the one before (-1).

    On the device the ring follows the wires, so that its order is known only at run time
    (collective_permute_implicit_current_processing_rank_id), and rings that run at once use wires of their own
    (neuron-runtime/explore/intranode-collective-comm.rst, Ring Algorithm). Two directions here, so that a kernel that
    guesses the order, or asks for another channel's, does not pass.
    """
    return 1 if channel % 2 == 0 else -1
