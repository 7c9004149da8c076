"""Rooflines and waves of Triton kernels on GPUs that are not here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from triptych.harness.accelerators.catalogue import catalogue
from triptych.harness.collection import builtin
from triptych.harness.ops.case import Case

pytest.importorskip("triton")

from triptych.harness.emulators.compilation import TARGETS
from triptych.harness.profiling.on_gpu import launched, profiled, roofline
from triptych.harness.reports.profile.on_gpu import remarks, text

MATMUL = builtin()["matmul"]


def test_every_target_is_of_a_chip_in_the_catalogue():
    assert [chip.name for target in TARGETS for chip in catalogue().compiled_for(target)] == [
        "A100",
        "H100",
        "H200",
        "B200",
        "MI300X",
    ]


def test_a_roofline_is_the_larger_of_both_times():
    h100 = catalogue().chip("H100")  # 989 TFLOP/s in bfloat16, 67 in float32, 3350 GB/s
    of_products = roofline(h100, "sm_90", 989_000_000, 3_350, "bfloat16")
    assert (of_products.least_us, of_products.bound) == (1.0, "compute")
    of_bytes = roofline(h100, "sm_90", 989_000_000, 6_700_000, "bfloat16")
    assert (of_bytes.least_us, of_bytes.bound) == (2.0, "memory")
    assert of_bytes.bends_at == pytest.approx(989e12 / 3350e9)
    assert roofline(h100, "sm_90", 67_000_000, 0, "float32").least_us == 1.0


@pytest.fixture(scope="module")
def product():
    """A product of 16 x 16 tiles of 128 x 256 on sm_90, one program on each of 132 processors: 256 in 1.94 waves."""
    return profiled(MATMUL, Case("matmul", "square", {"M": 2048, "K": 512, "N": 4096}, "bfloat16"), ["sm_90"])


def test_waves_are_programs_over_places(product):
    (one,) = product.launches
    assert one.compilation.launched == 256 and one.compilation.kernel.occupancy.programs == 1
    assert one.waves == pytest.approx(256 / 132) and one.full == pytest.approx(256 / 264)
    assert (product.flops, product.bytes) == (2 * 2048 * 512 * 4096, 2 * (2048 * 512 + 512 * 4096 + 2048 * 4096))
    assert list(remarks(one)) == [] and product.faults == []
    shown = text([product])
    assert "8.59 GFLOP" in shown and "H100 SXM" in shown and "H200 SXM" in shown and "1.94  97.0 %" in shown


def test_places_that_are_left_idle_are_told(product):
    (one,) = product.launches
    few = launched(replace(one.compilation, launched=33))
    assert list(remarks(few)) == ["sm_90 _matmul_kernel: its 33 programs take 25.0 % of the GPU's places"]
    last = launched(replace(one.compilation, launched=132 + 66))
    assert list(remarks(last)) == ["sm_90 _matmul_kernel: of 2 waves the last takes 50.0 % of the GPU's places"]


def test_what_does_not_compile_fills_nothing(product):
    (one,) = product.launches
    broken = launched(replace(one.compilation, kernel=None, fault="kernel does not compile for sm_90: why"))
    assert broken.waves is None and list(remarks(broken)) == ["sm_90: kernel does not compile for sm_90: why"]
