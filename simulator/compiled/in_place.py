"""Whether what kernels do most is compiled: `frequent` in the place of the Python after which it is written.

It leaves the same objects in the same order. When it is there: triptych.simulator.built.
"""

from __future__ import annotations

import enum
from typing import Any

import numpy as np

from triptych.simulator import running
from triptych.simulator.built import built
from triptych.simulator.dtypes import F32, DType
from triptych.simulator.enums import engine
from triptych.simulator.errors import HERE, Lines
from triptych.simulator.machine import dynamic, instructions, machine
from triptych.simulator.machine.deferral.blas import find_sgemm, same_bits
from triptych.simulator.machine.deferral.deferred import NUMBERS, DeferredMachine
from triptych.simulator.machine.deferral.pending import Book, Pending
from triptych.simulator.machine.deferral.products import Product
from triptych.simulator.machine.forms import PLAIN, describe, number_of
from triptych.simulator.machine.machine import Machine
from triptych.simulator.machine.plan import Picks, Plan
from triptych.simulator.machine.shape_only import ShapeMachine
from triptych.simulator.memory import pool
from triptych.simulator.memory.extents import marked, unmarked
from triptych.simulator.memory.held import Held
from triptych.simulator.memory.layout import TUPLES, Layout
from triptych.simulator.memory.mask import Mask
from triptych.simulator.memory.references import Reference, through
from triptych.simulator.memory.shapes import NO_BYTES, ShapeStorage
from triptych.simulator.memory.storage import MemoryRegion, Storage, sizes_of
from triptych.simulator.operands.operands import move, move_transposed
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.trace import Allocation, Event, Region, Trace

REPLACED: tuple[tuple[Any, str], ...] = (
    (NkiTensor, "__getitem__"),
    (NkiTensor, "array"),
    (NkiTensor, "f32"),
    (pool, "_unused"),
    (NkiTensor, "wrote"),
    (Storage, "wrote"),
    (Storage, "wrote_rows"),
    (Storage, "__del__"),
    (Machine, "allocate"),
    (Machine, "execute"),
    (instructions, "carry_out"),
    (dynamic, "moved_to"),
    (dynamic, "spread"),
    (machine, "regions_of"),
)
IN_PYTHON = tuple(vars(owner)[name] for owner, name in REPLACED)


def _install() -> bool:
    frequent = built("frequent")
    if frequent is None:
        return False
    frequent.install(
        Machine=Machine,
        DeferredMachine=DeferredMachine,
        ShapeMachine=ShapeMachine,
        Book=Book,
        Lines=Lines,
        Trace=Trace,
        Tensor=NkiTensor,
        Storage=Storage,
        ShapeStorage=ShapeStorage,
        Mask=Mask,
        Pool=pool.Pool,
        Held=Held,
        Layout=Layout,
        Region=Region,
        Allocation=Allocation,
        Event=Event,
        Plan=Plan,
        Picks=Picks,
        Pending=Pending,
        Product=Product,
        Reference=Reference,
        DType=DType,
        Enumeration=enum.EnumMeta,
        instructions=instructions,
        dynamic=dynamic,
        machines=machine,
        pools=pool,
        frombuffer=np.frombuffer,
        byte_dtype=np.dtype(np.uint8),
        zeros=np.zeros,
        bool_dtype=np.dtype(bool),
        current=running.current,
        plain_kinds=PLAIN,
        tuples=TUPLES,
        form_number=number_of,
        describe=describe,
        sizes_of=sizes_of,
        f32_dtype=F32,
        ndarray=np.ndarray,
        here=HERE,
        move=move,
        transposing=move_transposed,
        turning=getattr(built("casts"), "turning", None),
        widening=getattr(built("casts"), "widening", None),
        empty=np.empty,
        find_sgemm=find_sgemm,
        same_bits=same_bits,
        numbers=NUMBERS,
        through=through,
        shared=MemoryRegion.shared_hbm,
        no_bytes=NO_BYTES,
        marked=marked,
        unmarked=unmarked,
        tensor_engine=engine.tensor,
    )
    return True


IS_COMPILED = _install()
