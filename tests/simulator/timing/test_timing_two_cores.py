"""What two cores share and what each has to itself, by hand."""

import ml_dtypes
import numpy as np
import pytest
from kernel_parts import product

from triptych import simulator
from triptych.simulator.chips import chip_of
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

TRN2 = chip_of("trn2")
FIXED = (TRN2.launch_ns.value + TRN2.teardown_ns.value) / 1e3  # us
FIRST, KNOWN = 1.290 + 0.740, 0.380  # us from the launch to the first byte, and from the last to the end
X = np.ones((128, 4096), ml_dtypes.bfloat16)


def loads(x):
    for _ in range(20):
        nisa.dma_copy(nl.ndarray((128, 4096), "bfloat16"), x)
    return x


def predict(kernel, cores, *operands, **settings):
    return simulator.predict(simulator.jit(kernel)[cores], *operands, target="trn2", settings=settings)


def test_two_cores_share_their_hbm():
    one, two = (predict(loads, cores, X) for cores in (1, 2))
    fixed = FIXED + FIRST + KNOWN
    work = one.total_us - fixed
    assert two.total_us - fixed == pytest.approx(work * 390 / 358, rel=0.01)
    assert two.hbm_bytes == 2 * one.hbm_bytes


@pytest.mark.parametrize(("hbm_cores", "of_each"), [(1, 390), (2, 358), (4, 358)])
def test_a_core_with_an_hbm_of_its_own_shares_none(hbm_cores, of_each):
    assert predict(loads, 2, X, hbm_cores=hbm_cores).total_us == predict(loads, 1, X, dma_gb_per_s=of_each).total_us


def test_a_core_asks_for_no_more_of_the_hbm_than_its_rings_move():
    assert predict(loads, 2, X, hbm_gb_per_s=1000).total_us == predict(loads, 1, X).total_us


def test_two_cores_have_twice_the_peak():
    one, two = (predict(product, cores, X[:, 0:64], X[:, 0:256]) for cores in (1, 2))
    assert two.flops == 2 * one.flops > 0 and two.compute_us == one.compute_us
