"""The accumulators' registers: what they hold, and as the trace names them, where what goes through them is seen."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator import NkiValidationError
from triptych.simulator.analysis.hazards import hazards
from triptych.simulator.enums import reduce_cmd as cmd
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.operands.accumulators import (
    Accumulator,
    check_command,
    check_defined,
    check_result,
    fold_of,
    initial_value,
    operator_name,
)
from triptych.simulator.operands.in_order import in_order
from triptych.simulator.operands.operators import OPS

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


FOLDS = {
    "add": (lambda x, y: x + y, 0.0),
    "multiply": (lambda x, y: x * y, 1.0),
    "maximum": (max, -np.inf),
    "minimum": (min, np.inf),
    "abs_max": (lambda x, y: x if abs(x) > abs(y) else y, 0.0),
    "abs_min": (lambda x, y: x if abs(x) < abs(y) else y, np.inf),
}


@pytest.mark.parametrize("name", FOLDS)
@pytest.mark.parametrize("ordered", [True, False])
def test_registers_hold_what_commands_fold_into_them(core, name, ordered):
    """Random commands on some partitions, against a list with a number for each."""
    fold, identity = FOLDS[name]
    rng = np.random.default_rng(0)
    registers = Accumulator("Vector Engine", "vector_registers", ordered)
    expected = [0.0] * 128
    function, start = fold_of(OPS[name], (name,))
    assert start == identity
    with core() as c:
        whole, column = c.tile(np.ones((128, 3), np.float32)), c.tile(np.arange(32, dtype=np.float32)[:, None])
        for _ in range(40):
            command = list(cmd)[rng.integers(len(cmd))]
            first = 32 * int(rng.integers(4))
            data = whole[first : first + 32]
            values = rng.integers(-3, 4, (32, 3)).astype(np.float32)
            initial = (7.0, column)[rng.integers(2)] if command is cmd.load_reduce else None
            registers.accumulate(data, command, function, start, values, initial)
            for row in range(32) if command is not cmd.idle else ():
                held = expected[first + row] if command is cmd.reduce else identity
                if command is cmd.load_reduce:
                    held = 7.0 if initial == 7.0 else float(row)
                if command is not cmd.reset:
                    total = values[row, 0]
                    for value in values[row, 1:]:
                        total = fold(float(total), float(value))
                    held = fold(held, float(total))
                expected[first + row] = held
            for negate in (False, True):
                shown = c.empty((32, 1))
                registers.read_out(data, shown, negate)
                shown.check_written()
                assert (-shown.array if negate else shown.array).ravel().tolist() == expected[first : first + 32]
            registers.read_out(data, None)
    assert registers.values.ravel().tolist() == expected


def test_a_sum_is_in_order_where_that_is_known(core):
    values = np.random.default_rng(0).standard_normal((32, 700)).astype(np.float32)
    with core() as c:
        data = c.empty((32, 700))
        for ordered in (True, False):
            registers = Accumulator("an engine", "registers", ordered)
            registers.accumulate(data, cmd.reset_reduce, np.add, 0.0, values)
            total = in_order(np.add, values) if ordered else values.sum(axis=1)
            np.testing.assert_array_equal(registers.values[:32, 0], total)
    assert (in_order(np.add, values) != values.sum(axis=1)).any()


def test_registers_are_memory_of_no_tensor_and_no_line(core):
    with core() as c:
        dst, data, total = tiles(c)
        nisa.activation_reduce(dst, nl.copy, data, nl.add, total)
        (own,) = {r.allocation for r in c.trace.events[-1].writes if r.allocation.buffer == "scalar_registers"}
        assert (own.id, own.line, own.address, own.shape) == (-1, ("?", 0), (0, 0), (128, 1))


def test_a_register_holds_a_value_from_a_reset_on(core):
    registers = Accumulator("Vector Engine", "vector_registers")
    with core() as c:
        whole = c.empty((128, 3))
        part, all_of_it = whole[32:64], whole[:]
        registers.doubtful[...] = True
        assert registers.allocation.shape == registers.values.shape == registers.started.shape == (128, 1)
        assert (registers.allocation.name, registers.allocation.buffer) == ("Vector Engine", "vector_registers")
        assert registers.used(part, cmd.idle, None) is None
        registers.used(part, cmd.reset, None).begin()
        registers.begin(part, cmd.reset, 0.0)
        assert registers.doubtful[:, 0].tolist() == [not 32 <= p < 64 for p in range(128)]
        tile = registers.tile(slice(32, 64))
        assert tile is registers.tile(slice(32, 64)) and tile.region[1:4] == (32, (32, 1), (1, 1))
        for command, result, forgets, reads, writes in (
            (cmd.reduce, None, False, True, True),
            (cmd.idle, whole, False, True, False),
            (cmd.reset_reduce, whole, False, False, True),
            (cmd.load_reduce, None, False, False, True),
            (cmd.idle, whole, True, True, True),
        ):
            use = registers.used(part, command, result, forgets)
            assert use.begin() == ((tile,) if reads else (), (tile,) if writes else ()), command
        with pytest.raises(NkiValidationError, match="Vector Engine holds nothing on partition 32: no reset has"):
            registers.used(part, cmd.reduce, None).begin()  # the last forgets
        assert registers.used(part, cmd.idle, None, True).begin() == ((), (tile,))
        registers.used(part, cmd.reset, None).begin()
        for command, result in ((cmd.reduce, None), (cmd.idle, whole)):
            with pytest.raises(NkiValidationError, match="holds nothing on partition 0"):
                registers.used(all_of_it, command, result).begin()


def test_what_goes_with_a_command(core):
    with core() as c:
        data, column = c.empty((4, 6)), c.empty((4, 1))
        assert fold_of(nl.max, ("maximum",)) == fold_of(nl.maximum, ("maximum",)) == (np.maximum, -np.inf)
        assert operator_name(nl.min) == "minimum" and operator_name(3) == ""
        with pytest.raises(NkiValidationError, match="reduce_op must be nl.add or nl.maximum, got nl.multiply"):
            fold_of(nl.multiply, ("add", "maximum"))
        check_command(cmd.reset, (cmd.reset, cmd.idle))
        with pytest.raises(NkiValidationError, match="must be one of nisa.reduce_cmd.reset, nisa.reduce_cmd.idle, got"):
            check_command(cmd.reduce, (cmd.reset, cmd.idle))
        check_defined(None, cmd.idle), check_defined(column, cmd.reduce)
        with pytest.raises(NkiValidationError, match="the accumulator it would show is not defined"):
            check_defined(column, cmd.idle)
        for good in (None, column, c.empty((4, 1, 1))):
            check_result(good, data)
        for wrong in (c.empty((3, 1)), c.empty((4, 2))):
            with pytest.raises(NkiValidationError, match=r"reduce_res must be \(4, 1\), got"):
                check_result(wrong, data)
        with pytest.raises(NkiValidationError, match="reduce_res must be a tile in SBUF or PSUM"):
            check_result(c.empty((4, 1), buffer="private_hbm"), data)
        assert initial_value("value", None, cmd.reduce, data) == (None, ())
        assert initial_value("value", 2, cmd.load_reduce, data) == (2.0, ())
        assert initial_value("value", column, cmd.load_reduce, data) == (column, (column,))
        for value, command, words in (
            (1.0, cmd.reduce, "value goes with reduce_cmd load_reduce only"),
            (None, cmd.load_reduce, "load_reduce needs value, a number or a column"),
            (c.empty((4, 1), "bfloat16"), cmd.load_reduce, "value must be float32"),
        ):
            with pytest.raises(NkiValidationError, match=words):
                initial_value("value", value, command, data)
