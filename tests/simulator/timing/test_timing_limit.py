"""A run in the program's order that is given up: never one that would end in time, and each as soon as it is seen."""

import contextlib
import functools

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import Options, ShapeDtype
from triptych.simulator.analysis.hazards import hazards
from triptych.simulator.chips import chip_of
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.timing.clock import Clock, TooLate
from triptych.simulator.timing.program import program_of
from triptych.simulator.timing.room import tenants_of
from triptych.simulator.timing.work import works_of

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

TRN2 = chip_of("trn2")
FIRST_ISSUE = TRN2.launch_ns.value + TRN2.gpsimd_launch_ns.value


def tile(buffer=nl.sbuf):
    return nl.ndarray((128, 512), nl.float32, buffer)


def copies(x):
    """A load, for which all of Vector's twenty copies wait."""
    a = tile()
    nisa.dma_copy(a, x)
    for _ in range(20):
        nisa.tensor_copy(tile(), a, engine=nisa.engine.vector)


def loads(x):
    """Transfers whose issue takes longer than their move; the last is used."""
    for _ in range(20):
        a = tile()
        nisa.dma_copy(a[0:8, 0:8], x[0:8, 0:8])
    nisa.tensor_copy(tile(), a, engine=nisa.engine.vector)


def tiles_of_the_array(x):
    """Matmuls of which four run at once."""
    a, b = tile(), tile()
    nisa.memset(a, 1.0, engine=nisa.engine.vector)
    nisa.memset(b, 1.0, engine=nisa.engine.vector)
    for i in range(40):
        rows = slice(32 * (i % 4), 32 * (i % 4) + 32)
        nisa.nc_matmul(tile(nl.psum), a[rows, 0:128], b[rows], tile_position=(32 * (i % 4), 0), tile_size=(32, 128))


@functools.cache
def traced(program):
    def kernel(x):
        program(x)
        return x

    options = Options(check_uninitialized=False, check_capacity=False)
    return simulator.run(kernel, ShapeDtype((128, 512), "float32"), target="trn2", options=options).trace


def clock(program, limit):
    trace = traced(program)
    numbers = program_of(trace, works_of(trace), hazards(trace), tenants_of(trace))
    return Clock(numbers, range(len(trace.events)), in_order=True, limit=limit)


@pytest.mark.parametrize("program", [copies, loads, tiles_of_the_array])
def test_what_ends_in_time_runs(program):
    spans = clock(program, np.inf).run()
    end = max(span.end_ns for span in spans)
    assert clock(program, end).run() == spans


@pytest.mark.parametrize(("program", "begun", "busy"), [
    (copies, 1, 20 * (512 / 2 + 64) / 0.96),
    (loads, 0, 20 * 603),
    (tiles_of_the_array, 2, 40 * 64 / 2.4),
])  # fmt: skip
def test_a_run_ends_as_soon_as_what_is_left_takes_too_long(program, begun, busy):
    """When the first of those that keep one engine busy begins, or is issued, all of them are left."""
    first = clock(program, np.inf).run()[begun]
    since = FIRST_ISSUE if program is loads else first.start_ns
    late, later = clock(program, since + busy - 1), clock(program, since + busy + 1)
    with pytest.raises(TooLate):
        late.run()
    assert sum(span is not None for span in late.spans) == begun
    with contextlib.suppress(TooLate):
        later.run()
    assert sum(span is not None for span in later.spans) > begun


def test_a_run_that_would_end_just_in_time_goes_on():
    """All transfers are issued by the limit; for the copy of the last no time is left."""
    just = clock(loads, FIRST_ISSUE + 20 * 603)
    with pytest.raises(TooLate):
        just.run()
    assert sum(span is not None for span in just.spans) == 20
