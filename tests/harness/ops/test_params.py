"""Which integers of a case are sizes and which are options: the reference and the inputs' shapes say so."""

import textwrap

import pytest

from triptych import Op
from triptych.harness.ops import case_spec
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import named_parameters
from triptych.harness.results.status import Status
from triptych.harness.running import runner
from triptych.harness.running.plan import plan
from triptych.harness.running.request import Request
from triptych.harness.running.tasks import Settings


def grouped(x, groups):
    """The mean of each group of columns."""
    return x.reshape(len(x), groups, -1).mean(axis=2)


def test_an_integer_that_the_reference_takes_is_an_option():
    op = Op("mean", {"x": ("M", "N")}, grouped, [{"M": 3, "N": 8, "groups": 4}])
    case = op.case_sets["smoke"][0]
    assert case == Case("mean", "3x8-groups=4", {"M": 3, "N": 8}, "", {"groups": 4}) and op.axes == ("M", "N")
    assert {tuple(case.params.items()) for case in op.case_sets["adversarial"]} == {(("groups", 4),)}
    assert case_spec.read(op, "M=2,N=6,groups=3").params == {"groups": 3}


def test_an_integer_in_a_shape_is_an_axis_even_if_the_reference_takes_one_of_its_name():
    op = Op("mean", {"x": ("M", "groups")}, lambda x, groups=1: x, [{"M": 3, "groups": 4}])
    assert op.case_sets["smoke"][0].axes == {"M": 3, "groups": 4}


def test_a_generator_draws_by_axes_and_the_reference_takes_the_rest():
    ops = [
        Op("a", lambda case, rng: {}, grouped, [{"M": 3, "groups": 4}]),
        Op("b", lambda case, rng: {}, lambda **inputs: 0, [{"M": 3, "groups": 4}]),
        Op("c", lambda case, rng: {}, grouped, [{"M": 3, "groups": 4}], axes=("M", "groups")),
    ]
    assert [op.case_sets["smoke"][0].axes for op in ops] == [{"M": 3}, {"M": 3, "groups": 4}, {"M": 3, "groups": 4}]


def test_a_reference_without_a_signature_names_nothing():
    assert named_parameters(grouped) == ["x", "groups"] and named_parameters(dict) == []


KERNELS = """
    import nki, nki.isa as nisa, nki.language as nl, triton, triton.language as tl
    from triptych import Op

    @triton.jit
    def scaled(x, out, N, by, B: tl.constexpr):
        i = tl.program_id(0) * B + tl.arange(0, B)
        tl.store(out + i, tl.load(x + i, mask=i < N) * by, mask=i < N)

    def launch(x, out, times):
        scaled[(triton.cdiv(x.numel(), 64),)](x.contiguous(), out, x.numel(), {by}, B=64)

    @nki.jit
    def kernel(x, times):
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x)
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0={by})
        nisa.dma_copy(dst=out, src=tile)
        return out

    op = Op("times", {{"x": ("M", "N")}}, lambda x, times: times * x, [{{"M": 4, "N": 100, "times": 3}}],
            dtypes=("float32",), triton=launch, nki=kernel)
"""


@pytest.mark.parametrize("by", ["times", "2"])
def test_the_option_reaches_both_kernels(tmp_path, by):
    pytest.importorskip("triton")
    path = tmp_path / "times.py"
    path.write_text(textwrap.dedent(KERNELS.format(by=by)))
    tasks = plan(Request(sources=(str(path),), backends=("nki-sim", "triton-cpu"))).tasks
    results = runner.run(tasks, Settings(), timeout_s=120)
    wanted = Status.PASSED if by == "times" else Status.FAILED
    assert [result.status for result in results] == [wanted] * 2, [result.message for result in results]
