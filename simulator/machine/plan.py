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

from triptych.simulator.enums import engine
from triptych.simulator.memory.layout import Layout
from triptych.simulator.operands.accumulators import Use
from triptych.simulator.tensors.tensor import NkiTensor

Tensors = tuple[NkiTensor, ...]


class Plan:
    """One instruction, checked and not yet carried out.

    engine: what it runs on
    reads, writes: tensors, in the order in which the event names them
    compute: makes the results, `compute(*operands)`; it refers to no tensor but these
    use: what it does with the registers of an accumulator
    decide: a question about what of memory has been written, `decide(*operands)`, asked at each call; if the answer is
        not False, the results are read too, and `compute` gets the answer as its last argument
    packed: whether one of these holds no numbers
    by_matmul: whether later matmuls may add to the results
    moves: of an instruction that makes one result and only moves data: `moves(*operands)` gives a tensor, and the view
        of its storage, that the result is then equal to, element by element, but for rounding; None if it does more
    multiplies: of a matmul: `multiplies(*operands)` gives stationary, moving and whether it adds; None if it does more
    attributes: of the event
    """

    __slots__ = (
        "attributes",
        "by_matmul",
        "compute",
        "decide",
        "engine",
        "moves",
        "multiplies",
        "operands",
        "packed",
        "reads",
        "use",
        "writes",
    )

    def __init__(
        self,
        on: engine,
        reads: Sequence[NkiTensor],
        writes: Sequence[NkiTensor],
        compute: Callable[..., None],
        operands: Sequence[Any],
        *,
        use: Use | None = None,
        decide: Callable[..., Any] | None = None,
        by_matmul: bool = False,
        moves: Callable[..., tuple[NkiTensor, Layout | None] | None] | None = None,
        multiplies: Callable[..., tuple[NkiTensor, NkiTensor, Any] | None] | None = None,
        **attributes: Any,
    ) -> None:
        self.engine = on
        self.reads = tuple(reads)
        self.writes = tuple(writes)
        self.compute = compute
        self.operands = tuple(operands)
        self.use = use
        self.decide = decide
        self.by_matmul = by_matmul
        self.moves = moves
        self.multiplies = multiplies
        self.attributes = attributes
        self.packed = any([t.dtype.kind == "x" for t in (*reads, *writes)])


class Known(NamedTuple):
    """A plan without its tensors, for calls whose operands have the same forms.

    Each function takes a call's tensors; that of operands takes the plan's, which are constants, and these behind them.
    """

    plan: Plan
    reads: Callable[[Tensors], Tensors]
    writes: Callable[[Tensors], Tensors]
    operands: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    regular: bool  # whether the checks of regions would find no more than they found in the first call


def known(plan: Plan, tensors: Tensors, regular: bool) -> Known | None:
    """A plan as calls with other tensors have it; None where it is about parts of its operands."""
    numbers = {id(t): n for n, t in enumerate(tensors)}
    held = [o for o in (*plan.reads, *plan.writes, *plan.operands) if isinstance(o, NkiTensor)]
    if any(id(t) not in numbers for t in held):
        return None
    constants = [None if isinstance(o, NkiTensor) else o for o in plan.operands]
    places = [numbers[id(o)] + len(constants) if isinstance(o, NkiTensor) else at for at, o in enumerate(plan.operands)]
    reads, writes = ([numbers[id(t)] for t in touched] for touched in (plan.reads, plan.writes))
    plan.operands, plan.reads, plan.writes = tuple(constants), (), ()
    return Known(plan, _picked(reads), _picked(writes), _picked(places), regular)


def _picked(numbers: list[int]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """A function that gives these items of a tuple."""
    if len(numbers) > 1:
        return itemgetter(*numbers)
    return itemgetter(slice(numbers[0], numbers[0] + 1) if numbers else slice(0))
