"""The machine that puts off what only moves data, and sums of matmuls: the third driver of plans.

Plans are checked and recorded as ever, and what is written is known at once; bytes are not moved until somebody asks
for them. A copy or a transpose leaves a reference to its source. A matmul leaves a product that later ones add to. What
asks is whatever looks at a tensor's array: an instruction that computes, a print, an index, the caller who takes the
outputs. Then it is carried out with the bits that the machine which carries out each instruction at once would have
left (triptych.simulator.machine.machine), large products and few copies instead of many.

Some lines of a kernel gain nothing: each tile that they load is copied all the same when an engine asks for it, and
each matmul is a sum by itself. Where only that is seen of a line, it is carried out at once from then on.

Put off is what comes from HBM, and what comes of that by matmuls and copies. Values that an engine has computed stay
where they are, and are multiplied at once. Nothing is put off at addresses, on two cores that share HBM and in
arguments that share bytes: what lies there may be seen elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.enums import engine
from triptych.simulator.machine.deferral.pending import Book, drop, put_back, settle, take
from triptych.simulator.machine.deferral.products import Product
from triptych.simulator.machine.dynamic import Rows
from triptych.simulator.machine.machine import Machine
from triptych.simulator.machine.plan import Plan
from triptych.simulator.memory.layout import Layout, overlaps
from triptych.simulator.memory.references import Reference
from triptych.simulator.memory.storage import SBUF, Storage
from triptych.simulator.tensors.tensor import NkiTensor

Array = NDArray[Any]
_TENSOR = engine.tensor
NUMBERS = ("float32", "bfloat16", "float16")  # dtypes of the operands of products, and of what sums are rounded to
WORTH = 2**19  # bytes of a copy to HBM from which on moving them twice takes longer than noting where they are


@dataclass
class DeferredMachine(Machine):
    """The one core of a rank while it runs a kernel."""

    book: Book = field(default_factory=Book)
    inputs: list[NkiTensor] = field(default_factory=list)  # the kernel's arguments
    aliases: set[int] = field(default_factory=set)  # allocations of arguments that share bytes with others

    def input(self, array: Array, name: str) -> NkiTensor:
        new = super().input(array, name)
        for other in self.inputs:
            if np.may_share_memory(new.storage.raw, other.storage.raw):
                self.aliases |= {new.storage.allocation.id, other.storage.allocation.id}
        self.inputs.append(new)
        return new

    def compute(self, plan: Plan, results: tuple[NkiTensor, ...], operands: tuple[Any, ...]) -> None:
        book = self.book
        may_wait = plan.multiplies or plan.moves is not None
        if may_wait and not self.tries and self.line not in book.in_vain:
            if self._put_off(plan, results, operands):
                return
            book.saw([self.line], False)
        if not book.waiting:
            plan.compute(*operands)
            return
        for t in results:
            if t.storage.pending is not None and not _overwrites(plan, t, operands):
                settle(t.storage)
            book.before_write(t.storage)
        dropped = [(t.storage, drop(t.storage)) for t in results if _waits(t.storage)]
        if plan.engine is _TENSOR:  # the bits of a product that NumPy computes depend on how operands lie
            for t in operands:
                if type(t) is NkiTensor and t.storage.pending is not None:
                    settle(t.storage)
        book.trusts = True
        try:
            plan.compute(*operands)
        except BaseException:  # a kernel may catch it, and look at what it did not overwrite
            for storage, pending in dropped:
                put_back(storage, pending)
            raise
        finally:
            book.trusts = False

    def settle(self) -> None:
        """Carry out what the caller may see of what was put off."""
        for storage in self.book.storages():
            if not storage.row:
                settle(storage)

    def _put_off(self, plan: Plan, results: tuple[NkiTensor, ...], operands: tuple[Any, ...]) -> bool:
        if plan.moves is not None:
            of, view = plan.moves(*operands) or (results[0], None)
            return view is not None and self._moved(results[0], of, view)
        dst, stationary, moving, *_, onto = operands
        return self._multiplied(dst, stationary, moving, onto)

    def _moved(self, dst: NkiTensor, of: NkiTensor | Rows, view: Layout) -> bool:
        """Leave dst a reference to a view of a tensor, or to rows of one; False if that cannot be, or saves nothing."""
        src = of.table if isinstance(of, Rows) else of
        into, source = dst.storage, src.storage
        if type(into) is not Storage or type(source) is not Storage or into is source:
            return False
        if into.allocation.id in self.aliases or source.allocation.id in self.aliases:
            return False
        if overlaps(dst.shape, dst.strides):
            return False
        self.book.make_room(into, dst.layout)
        if not _waits(source):
            if dst.dtype != src.dtype or dst.buffer is not SBUF or source.row:
                return False
            self.book.write(into, dst.layout, Reference(source if of is src else of, view), self.line)
            into.wrote(dst.layout)
            return True
        parts = source.pending.parts(view, dst.layout) if of is src else None
        if parts is None or not (dst.dtype == src.dtype or all([_may_round(dst, src, value) for _, value in parts])):
            return False
        small = not into.row and dst.layout.size * dst.dtype.itemsize < WORTH
        if small and all([type(value.source) is Storage for _, value in parts]):
            return False
        self.book.saw([source.pending.line], True)
        for to, (origin, layout) in parts:
            if type(origin) is Rows:  # which are as quickly fetched once more as they are copied
                take(origin, layout, into.array_of(into.raw, to))
            else:
                self.book.write(into, to, Reference(origin, layout._replace(dtype=dst.dtype)), self.line)
        into.wrote(dst.layout)
        return True

    # One more step of a product is in C, too: triptych.simulator.compiled.
    def _multiplied(self, dst: NkiTensor, stationary: NkiTensor, moving: NkiTensor, onto: Any) -> bool:
        """Leave dst a product, or one more step of the product that it is; False if that cannot be."""
        into = dst.storage
        if type(into) is not Storage or dst.dtype != "float32" or (onto is not False and onto is not True):
            return False
        left, right = self._operand(stationary), self._operand(moving)
        if left is None or right is None or left == right or overlaps(dst.shape, dst.strides):
            return False
        if onto is False:
            product = Product(left, right, (self.line, stationary.storage.pending.line, moving.storage.pending.line))
            self.book.make_room(into, dst.layout)
            self.book.write(into, dst.layout, Reference(product, product.layout(dst.shape)), self.line)
        else:
            held = into.pending.entries.get(dst.layout) if into.pending is not None else None
            if held is None or type(held.source) is not Product or not held.source.adds(left, right):
                return False
        into.wrote(dst.layout, by_matmul=True)
        return True

    def _operand(self, t: NkiTensor) -> Reference | None:
        """Elements of HBM that are a matmul's operand, as [K, columns].

        None if the kernel has computed them, because such tiles seldom have neighbours, or if they are none for BLAS.
        """
        view, pending = t.layout, t.storage.pending
        if pending is None or not pending.entries:
            return None
        known: Reference | None = pending.operands.get(view)
        if known is not None:
            return known
        rows, columns = view.shape[0], t.free_size
        if t.dtype not in NUMBERS or not t.is_contiguous() or rows < 2 or columns < 2 or view.strides[0] < columns:
            return None
        found = pending.find(view)
        flat = None if found is None or type(found.source) is not Storage else found.layout.reshape((rows, columns))
        if flat is None:
            return None
        operand = pending.operands[view] = Reference(found.source, flat)
        return operand


def _overwrites(plan: Plan, result: NkiTensor, operands: tuple[Any, ...]) -> bool:
    """Whether nobody sees any more what a result's storage holds: all of it is made anew, of other tensors."""
    storage = result.storage
    named = [o for o in operands if type(o) is NkiTensor and o.storage is storage]
    return plan.makes_all and len(named) == 1 and storage.covers(result.layout)


def _waits(storage: Storage) -> bool:
    return storage.pending is not None and bool(storage.pending.entries)


def _may_round(dst: NkiTensor, src: NkiTensor, value: Reference) -> bool:
    """Whether a cast is the one rounding of a sum, which float32 holds as it is until then."""
    return type(value.source) is Product and src.dtype == "float32" and dst.dtype in NUMBERS
