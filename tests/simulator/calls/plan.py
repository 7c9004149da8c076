"""Ways to make a call of the table: where each operand lies, in which dtype, and what it holds."""

from __future__ import annotations

import numpy as np

from calls import CALLS
from triptych.simulator import INSTRUCTIONS

TARGETS = {2: "trn1", 3: "trn2", 4: "trn3"}
LAYOUTS = ("dense", "strided", "window", "partitions", "reversed")
RESHAPED = ("split", "permuted")  # where the partitions and their elements count, and not the dimensions
NAMES = sorted(CALLS)
GARBAGE = 0xA5


def targets_of(name):
    since = max(INSTRUCTIONS[name].since, CALLS[name](1, 1).since)
    return [target for generation, target in TARGETS.items() if generation >= since]


class Plan:
    """One drawn way to make a call: where each operand lies, in which dtype, and what it holds."""

    def __init__(self, call, choose, seed=0):
        self.call = call
        self.dtypes = {n: choose(f"dtype of {n}", o.dtypes) for n, o in call.operands.items()}
        for first, *rest in call.same_dtype:
            self.dtypes |= dict.fromkeys(rest, self.dtypes[first])
        self.buffers = {n: choose(f"memory of {n}", o.buffers) for n, o in call.operands.items()}
        if all(self.buffers[n] == "psum" for n in call.not_both_in_psum):
            self.buffers |= dict.fromkeys(call.not_both_in_psum[:1], "sbuf")
        self.layouts = {n: choose(f"layout of {n}", self.views(o)) for n, o in call.operands.items()}
        self.seed = seed

    @staticmethod
    def views(operand):
        """The access patterns that an operand may have; what all columns share may be repeated by a stride of 0."""
        return (*LAYOUTS, *(() if operand.rank else RESHAPED), *(("broadcast",) if operand.random else ()))

    def inputs(self, c, cast):
        """The values of the inputs, in their dtypes."""
        rng = np.random.default_rng(self.seed)
        held = {"dtypes": self.dtypes}
        for i, name in enumerate(self.call.inputs):
            operand, dtype = self.call.operands[name], self.dtypes[name]
            if operand.random:
                held[name] = cast(c.random(self.seed + i, operand.shape, dtype), dtype)
                if self.layouts[name] == "broadcast":
                    held[name] = np.repeat(held[name][:, :1], operand.shape[1], axis=1)
            else:
                values = operand.values(rng)
                held[name] = values if dtype.endswith("x4") else cast(values, dtype)
        return held

    def tiles(self, c, held):
        """The operands on the machine, with garbage around them that nothing has written."""
        made = {}
        for name, operand in self.call.operands.items():
            view, around, within = c.place(operand.shape, self.dtypes[name], self.buffers[name], self.layouts[name])
            if c.machine.options.data:
                around.array.view(np.uint8)[...] = GARBAGE
            if name in held:
                fill(view, held[name], operand.read)
            made[name] = (view, around, within)
        return made


def fill(view, values, written=True):
    """What a tile holds, written only where asked."""
    chosen = np.broadcast_to(written, values.shape).reshape(view.shape)
    np.copyto(view.array, values.reshape(view.shape), where=chosen)
    view.wrote_where(np.ascontiguousarray(chosen))


def first_choice(what, values):
    return values[0]
