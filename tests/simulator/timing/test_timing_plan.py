"""An engine runs its instructions in the order that was planned with the whole clock of the Tensor Engine."""

import dataclasses

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.timing import schedule

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


def tile(dtype="float32", buffer=nl.sbuf):
    return nl.ndarray((128, 512), dtype, buffer)


def product_beside_a_chain():
    """Vector copies what Scalar has after 5.0 us, and a product, which takes 3.5 us at the whole clock and now 6.2."""
    a, x, product = tile("bfloat16"), tile(), tile(buffer=nl.psum)
    nisa.memset(a, 1.0, engine=nisa.engine.gpsimd)
    nisa.memset(x, 1.0, engine=nisa.engine.gpsimd)
    for _ in range(5):
        nisa.activation(x, nl.exp, x, name="chain")
    nisa.tensor_copy(tile(), x, engine=nisa.engine.vector, name="of chain")
    for _ in range(16):
        nisa.nc_matmul(product, a[:, 0:128], a, name="product")
    nisa.tensor_copy(tile(), product, engine=nisa.engine.vector, name="of product")


def spans(order, slowdown):
    """Of the last instruction of each name, on a chip whose Tensor Engine is slower by that before it is kept busy."""

    def kernel(x):
        product_beside_a_chain()
        return x

    trace = simulator.run(kernel, np.ones((1, 1), np.float32), target="trn2").trace
    slower = dataclasses.replace(trace.chip.warm_up_slowdown, value=slowdown)
    trace = dataclasses.replace(trace, chip=dataclasses.replace(trace.chip, warm_up_slowdown=slower))
    return {trace.events[span.index].name: span for span in schedule(trace, order).spans}


def test_what_was_planned_behind_a_product_waits_for_it_when_it_is_late():
    planned, found = spans("overlapped", 1.0), spans("overlapped", 2.0)
    assert planned["product"].end_ns < planned["chain"].end_ns == found["chain"].end_ns < found["product"].end_ns
    assert planned["of chain"].start_ns == pytest.approx(planned["chain"].end_ns)
    assert found["of product"].start_ns == pytest.approx(found["product"].end_ns)
    assert found["of chain"].start_ns == pytest.approx(found["of product"].free_ns)
    assert found["of chain"].why == "engine"


def test_the_program_in_its_own_order_is_not_planned():
    found = spans("program", 2.0)
    assert found["chain"].end_ns < found["product"].end_ns
    assert found["of chain"].start_ns == pytest.approx(found["chain"].end_ns)
