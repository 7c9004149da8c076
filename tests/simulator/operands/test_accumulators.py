"""The accumulators' registers as the trace names them: what goes through them can be seen."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator.analysis.hazards import hazards
from triptych.simulator.enums import reduce_cmd as cmd
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


def touched(event):
    """(memory, first partition, partitions) of the registers that an event reads and writes."""
    return tuple(
        [(r.allocation.buffer, r.offset, r.shape[0]) for r in regions if r.allocation.buffer.endswith("registers")]
        for regions in (event.reads, event.writes)
    )


def tiles(c, first=0, p=4):
    whole = c.tile(np.ones((128, 6), np.float32))
    return c.empty((128, 6))[first : first + p], whole[first : first + p], c.empty((p, 1))


SCALAR = ("scalar_registers", 0, 4)
VECTOR = ("vector_registers", 0, 4)


def test_activations(core):
    with core("trn3") as c:
        dst, data, res = tiles(c)
        for command, result, expected in (
            (cmd.idle, None, ([], [])),
            (cmd.reset, None, ([], [SCALAR])),
            (cmd.reduce, None, ([SCALAR], [SCALAR])),
            (cmd.idle, res, ([SCALAR], [])),
            (cmd.reset_reduce, res, ([], [SCALAR])),
            (cmd.reduce, res, ([SCALAR], [SCALAR])),
        ):
            event = nisa.activation(dst, nl.exp, data, None, 1.0, nl.add, result, command)
            assert touched(event) == expected, command
            event = nisa.activate2(
                dst,
                nl.exp,
                data,
                1.0,
                0.0,
                nl.multiply,
                nl.add,
                reduce_op=nl.add,
                reduce_res=result,
                reduce_cmd=command,
            )
            assert touched(event) == expected, command
        assert touched(nisa.activation_reduce(dst, nl.exp, data, nl.add, res)) == ([], [SCALAR])


def test_vector_instructions(core):
    with core("trn3") as c:
        dst, data, res = tiles(c)
        choice, low = c.tile(np.ones((4, 6), np.uint8)), c.tile(np.zeros((4, 1), np.float32))
        for command, expected in (
            (cmd.reset_reduce, ([], [VECTOR])),
            (cmd.reduce, ([VECTOR], [VECTOR])),
        ):
            for event in (
                nisa.tensor_scalar_reduce(dst, data, nl.add, 1.0, nl.add, res, reduce_cmd=command),
                nisa.tensor_scalar_cumulative(dst, data, nl.add, nl.add, 1.0, reduce_cmd=command),
                nisa.exponential(dst, data, reduce_res=res, reduce_cmd=command),
                nisa.select_reduce(dst, choice, data, 0.0, res, command),
                nisa.range_select(dst, data, nl.less, nl.less, low, low, command, res),
            ):
                assert touched(event) == expected, (event, command)
        loaded = nisa.tensor_scalar_reduce(dst, data, nl.add, 1.0, nl.add, None, False, cmd.load_reduce, 3.0)
        assert touched(loaded) == ([], [VECTOR])
        for idle in (
            nisa.exponential(dst, data),
            nisa.select_reduce(dst, choice, data, 0.0),
            nisa.range_select(dst, data, nl.less, nl.less, low, low, cmd.idle),
        ):
            assert touched(idle) == ([], [VECTOR])  # it may change them
        assert touched(nisa.tensor_copy(dst, data)) == ([], [])


def test_the_partitions_are_those_of_the_data(core):
    with core("trn2") as c:
        dst, data, res = tiles(c, 64, 32)
        event = nisa.activation_reduce(dst, nl.exp, data, nl.add, res)
        assert touched(event) == ([], [("scalar_registers", 64, 32)])


@pytest.mark.parametrize("continues", [True, False])
def test_an_instruction_that_continues_a_sum_waits_for_the_one_before(core, continues):
    with core("trn2") as c:
        for first in (0, 32):
            for command in (cmd.reset_reduce, cmd.reduce if continues else cmd.reset_reduce):
                dst, data, _ = tiles(c, first)
                nisa.activation(dst, nl.exp, data, None, 1.0, nl.add, None, command)
        edges = hazards(c.trace)
        assert [[(at, why) for at, why in found.items() if why == "data"] for found in edges] == (
            [[], [(0, "data")], [], [(2, "data")]] if continues else [[], [], [], []]
        )
