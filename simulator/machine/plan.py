"""What an instruction is about to do, once its operands have been checked.

A call of an instruction of `nki.isa` has three steps:

    check     the instruction's function looks at its operands, never at what they hold, and returns a `Plan`
    compute   `Plan.compute` makes the results; it is a function of the operands and of constants
    record    the machine appends the event that the plan says

The machine drives them (triptych.simulator.machine.machine): one with data computes, one that has shapes alone marks
as written what would have been. As a plan rests on nothing but the forms of the operands and the other arguments, both
keep it, without its tensors, for the next call that is alike (`Known`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from triptych.simulator.analysis.regions import Order
from triptych.simulator.enums import engine
from triptych.simulator.machine.registers import VirtualRegister
from triptych.simulator.memory.layout import Layout
from triptych.simulator.operands.accumulators import Use
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.trace import Region

Tensors = tuple[NkiTensor, ...]
Touched = NkiTensor | Region  # a region is one of many rows, of a view with an index for each


class Plan:
    """One instruction, checked and not yet carried out.

    engine: what it runs on
    reads, writes: what it touches, in the order in which the event names them
    compute: makes the results, `compute(*operands)`; it refers to no tensor but these
    results: the tensors that are written, where `writes` names rows of them
    late: of an instruction that reads an index for each row of an operand when it runs, `late(*operands)`: what it
        touches, makes and takes then; `reads`, `writes` and `operands` name the operands as they were given
    needs: checks what of memory has to be written, `needs(*operands)`, in place of all that is read
    use: what it does with the registers of an accumulator
    decide: what is known or done without data and differs from call to call, `decide(*operands)`: where a matmul adds,
        what a register holds, a meeting of cores; `compute` gets the answer as its last argument
    marks: notes what of the results has been written, `marks(*operands)`, in place of all of them; `compute` does not
    keeps: whether a part of the results may stay as it was, for which there is no `marks`
    fresh: whether no run on shapes has carried out a call yet
    by_matmul: whether later matmuls may add to the result, the first operand; of one that adds (`decide` says anything
        but False) the result is read too
    register: of the sequencers, which is given a value, and the event with it
    moves: of an instruction that makes one result and only moves data: `moves(*operands)` gives a tensor, and the view
        of its storage, that the result is then equal to, element by element, but for rounding, or rows of HBM and how
        they would lie dense; None if it does more
    multiplies: whether it is a product, or one more step of a sum, and nothing else; then the operands are dst,
        stationary, moving, and last whether it adds
    attributes: of the event
    """

    __slots__ = (
        "attributes",
        "by_matmul",
        "compute",
        "decide",
        "engine",
        "fresh",
        "keeps",
        "late",
        "marks",
        "needs",
        "moves",
        "multiplies",
        "operands",
        "reads",
        "register",
        "results",
        "use",
        "writes",
    )

    def __init__(
        self,
        on: engine,
        reads: Sequence[Touched],
        writes: Sequence[Touched],
        compute: Callable[..., None],
        operands: Sequence[Any],
        *,
        results: Tensors | None = None,
        late: Callable[..., Late] | None = None,
        needs: Callable[..., None] | None = None,
        use: Use | None = None,
        decide: Callable[..., Any] | None = None,
        marks: Callable[..., None] | None = None,
        keeps: bool = False,
        by_matmul: bool = False,
        register: VirtualRegister | None = None,
        moves: Callable[..., tuple[Any, Layout | None] | None] | None = None,
        multiplies: bool = False,
        **attributes: Any,
    ) -> None:
        self.engine = on
        self.reads = tuple(reads)
        self.writes = tuple(writes)
        self.compute = compute
        self.operands = tuple(operands)
        self.results = results
        self.late = late
        self.needs = needs
        self.use = use
        self.decide = decide
        self.marks = marks
        self.keeps = keeps
        self.by_matmul = by_matmul
        self.register = register
        self.moves = moves
        self.multiplies = multiplies
        self.attributes = attributes
        self.fresh = True

    @property
    def makes_all(self) -> bool:
        """Whether each element of the results is made, of other operands alone, whatever stands there."""
        known = self.results is None and self.needs is None and self.decide is None and self.marks is None
        return known and not self.keeps


class Late(NamedTuple):
    """What is known of an instruction once it has read its indices."""

    reads: tuple[Touched, ...]
    writes: tuple[Touched, ...]
    results: Tensors
    operands: tuple[Any, ...]


def nothing(*operands: Any) -> None:
    """What needs nothing, computes nothing or marks nothing."""


class Picks:
    """Some items of tuples, by their numbers: what C reads, and a function."""

    __slots__ = ("numbers", "of")

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = tuple(numbers)
        self.of: Callable[[tuple[Any, ...]], tuple[Any, ...]]
        if len(numbers) > 1:
            self.of = itemgetter(*numbers)
        else:
            self.of = itemgetter(slice(numbers[0], numbers[0] + 1) if numbers else slice(0))


class Known(NamedTuple):
    """A plan without its tensors, for calls whose operands have the same forms.

    What is read and written is picked of a call's tensors; operands of the plan's, which are constants, and these.
    """

    plan: Plan
    reads: Picks
    writes: Picks
    operands: Picks
    check: Callable[..., None] | None  # of the regions, which would find more than it found in the first call


def is_apart(plan: Plan, order: Order) -> bool:
    """Whether what plans of this form write is one tensor, in another memory than what they read, or written last."""
    written, *more = [t.region.allocation.buffer for t in plan.writes] or [""]
    return not more and (order == "late" or all([t.region.allocation.buffer != written for t in plan.reads]))


def known(plan: Plan, tensors: Tensors, check: Callable[..., None] | None) -> Known | None:
    """A plan as calls with other tensors have it; None where it is about parts of its operands, or what indices say."""
    if plan.late is None and any([t.index is not None for t in tensors]):
        return None
    numbers = {id(t): n for n, t in enumerate(tensors)}
    held = [o for o in (*plan.reads, *plan.writes, *plan.operands) if isinstance(o, NkiTensor)]
    if any(id(t) not in numbers for t in held):
        return None
    constants = [None if isinstance(o, NkiTensor) else o for o in plan.operands]
    places = [numbers[id(o)] + len(constants) if isinstance(o, NkiTensor) else at for at, o in enumerate(plan.operands)]
    reads, writes = ([numbers[id(t)] for t in touched] for touched in (plan.reads, plan.writes))
    plan.operands, plan.reads, plan.writes = tuple(constants), (), ()
    return Known(plan, Picks(reads), Picks(writes), Picks(places), check)
