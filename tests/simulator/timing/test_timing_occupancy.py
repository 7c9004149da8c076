"""How full the memories are while a timeline passes, against tensors whose lives are known by hand."""

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator.chips import chip_of
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.timing import schedule
from triptych.simulator.timing.reading.occupancy import occupancy
from triptych.simulator.timing.room import Memory, Room, Tenant

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

TRN2 = chip_of("trn2")
LAUNCH, LATENCY = TRN2.launch_ns.value, TRN2.vector_latency_ns.value
FILL, COPY = (512 + 64) / 0.96, (512 / 2 + 64) / 0.96  # trn2, ns: of 512 float32 elements on Vector


def test_what_is_larger_than_a_memory_gets_it_alone():
    place = (0, "sbuf")
    small, large, last = (Tenant(place, size) for size in (4, 12, 1))
    memory = Memory(10, [small, large, last])
    room = Room({place: memory}, [])
    assert list(memory.admit()) == [small] and list(room.leave(small).admit()) == [large]
    assert list(memory.admit()) == [] and list(room.leave(large).admit()) == [last]
    assert (memory.free, memory.held, large.placed) == (9, 1, True)


def used(program, buffer="sbuf"):
    """(time after the launch, bytes) at every change, and the memory."""

    def kernel(x):
        program()
        return x

    trace = simulator.on("trn2").run(kernel, np.ones((1, 1), np.float32)).trace
    memory = next(m for m in occupancy(schedule(trace)) if m.buffer == buffer)
    return [(pytest.approx(at - LAUNCH), used) for at, used in memory.steps], memory


def tile(n=512, **options):
    return nl.ndarray((128, n), "float32", **{"buffer": nl.sbuf, **options})


def test_a_tensor_is_there_from_its_first_use_to_its_last():
    def program():
        a, b = tile(), tile()
        nisa.memset(a, 1.0)
        nisa.tensor_copy(b, a)
        nisa.memset(b, 2.0)

    steps, memory = used(program)
    second = FILL + LATENCY  # the copy waits for a; the last memset follows the copy without its latency
    assert steps == [(0, 2048), (second, 4096), (second + COPY + LATENCY, 2048), (second + COPY + FILL + LATENCY, 0)]
    assert memory.peak == 4096 and memory.capacity == 224 * 1024


def test_a_few_partitions_take_a_quarter():
    steps, _ = used(lambda: nisa.memset(nl.ndarray((32, 512), "float32", nl.sbuf), 0.0))
    assert [bytes for _, bytes in steps] == [512, 0]


def test_psum_is_apart():
    def program():
        nisa.memset(tile(buffer=nl.psum), 0.0)

    assert [bytes for _, bytes in used(program, "psum")[0]] == [2048, 0]
    assert used(program, "sbuf")[1].steps == [] and used(program, "sbuf")[1].peak == 0


def test_bytes_that_tensors_with_addresses_share_count_once():
    """b covers the second half of a and as much beyond; c lies apart."""

    def program():
        a, b, c = tile(address=(0, 0)), tile(address=(0, 1024)), tile(1, address=(0, 8192))
        nisa.memset(a, 1.0)
        nisa.memset(b, 2.0)
        nisa.tensor_copy(c, a[:, 0:1], engine=nisa.engine.vector)

    steps, memory = used(program)
    assert [bytes for _, bytes in steps] == [2048, 3072, 3076, 2052, 0]
    assert steps[1][0] == pytest.approx(FILL) and steps[2][0] == pytest.approx(2 * FILL)
    assert memory.peak == 3076
