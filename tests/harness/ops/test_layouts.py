"""Inputs that are not contiguous: their values stay, gaps are NaN, and a launcher that takes no strides is wrong."""

import textwrap

import ml_dtypes
import numpy as np
import pytest

from triptych import Op
from triptych.harness.backends import guarded
from triptych.harness.ops import layouts
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.inputs import make_inputs
from triptych.harness.results.status import Status
from triptych.harness.running import runner
from triptych.harness.running.plan import plan
from triptych.harness.running.request import Request
from triptych.harness.running.tasks import Settings

SHAPES = {"a": ("M", "N"), "b": ("M", "N"), "c": (2, "M", "N"), "v": ("N",)}


def launcher(a, out):
    """Stands for one of Triton's."""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_layouts_are_the_three_that_a_view_of_pytorch_has(dtype):
    op = Op("op", SHAPES, lambda **inputs: 0, [{"M": 5, "N": 7}], triton=launcher)
    (case,) = [case for case in cases_of(op, ["adversarial"], [dtype], {}, 0) if case.regime == "strided"]
    strides = [
        {name: tuple(s // x.itemsize for s in x.strides) for name, x in make_inputs(op, case, draw).items()}
        for draw in (0, 1)
    ]
    assert strides[0] == {"a": (1, 5), "b": (14, 2), "c": (5 * 23, 23, 1), "v": (2,)}
    assert strides[1] == {"a": (14, 2), "b": (23, 1), "c": (35, 1, 5), "v": (2,)}


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, np.int32, np.bool_])
@pytest.mark.parametrize("layout", layouts.OF_MATRICES)
def test_a_layout_keeps_every_value_and_leaves_nans_between(dtype, layout):
    x = np.arange(12).reshape(3, 4).astype(dtype)
    laid = layouts.lay_out(x, layout(x.shape))
    assert laid.dtype == x.dtype and not laid.flags.c_contiguous and laid.tolist() == x.tolist()
    if dtype == np.float32 and layout is not layouts.transposed:
        flat = np.lib.stride_tricks.as_strided(laid, (layouts.extent(x.shape, layout(x.shape)),), (4,))
        assert np.isnan(flat).sum() == flat.size - x.size > 0
    buffer, view = guarded.guarded_copy(laid)
    assert view.strides == laid.strides and view.tolist() == x.tolist()
    assert guarded.inside_like(buffer, laid).tolist() == x.tolist()
    guarded.check_margins(buffer, "x")


def test_a_cast_keeps_the_layout_and_what_runs_backwards_gets_none():
    x = layouts.lay_out(np.ones((3, 4), np.float16), (8, 2))
    assert layouts.strides_of(layouts.astype(x, np.float32)) == (8, 2)
    assert layouts.strides_of(np.ones((3, 4))[::-1]) == (4, 1)
    assert guarded.guarded_copy(np.arange(3)[::-1])[1].tolist() == [2, 1, 0]


def test_a_triton_panel_is_what_brings_the_strided_case():
    generator = Op("op", lambda case, rng: {}, lambda: 0, [{"M": 5}], triton=launcher)
    declared = Op(
        "op", SHAPES, lambda **_: 0, {"smoke": [{"M": 5, "N": 2}], "adversarial": [{"M": 3, "N": 2}]}, triton=launcher
    )
    without = Op("op", SHAPES, lambda **_: 0, [{"M": 5, "N": 2}])
    assert [case.name for case in generator.case_sets["adversarial"]] == ["5-strided"]
    assert [case.name for case in declared.case_sets["adversarial"]] == ["3x2", "5x2-strided"]
    assert all(case.regime != "strided" for case in without.case_sets["adversarial"])


def test_a_generator_draws_the_strided_case_as_a_normal_one():
    def inputs(case, rng):
        assert case.regime == "normal"
        return {"x": rng.standard_normal((case.axes["M"], 3))}

    op = Op("op", inputs, lambda x: x, [{"M": 5}], triton=launcher)
    (case,) = (case for case in cases_of(op, ["adversarial"], ["float16"], {}, 0) if case.regime == "strided")
    assert layouts.strides_of(make_inputs(op, case)["x"]) == (1, 5)


FILE = """
    import nki, nki.isa as nisa, nki.language as nl, triton, triton.language as tl
    from triptych import Op

    @triton.jit
    def add(x, y, out, N, xr, xc, yr, yc, B: tl.constexpr):
        i = tl.arange(0, B)
        r = tl.program_id(0)
        a = tl.load(x + r * xr + i * xc, mask=i < N)
        b = tl.load(y + r * yr + i * yc, mask=i < N)
        tl.store(out + r * N + i, a + 2 * b, mask=i < N)

    def launch(x, y, out):
        {prepare}
        M, N = x.shape
        add[(M,)](x, y, out, N, {strides}, B=triton.next_power_of_2(N))

    @nki.jit
    def kernel(x, y):
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        a = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
        b = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=a, src=x)
        nisa.dma_copy(dst=b, src=y)
        nisa.tensor_scalar(dst=b, data=b, op0=nl.multiply, operand0=2.0)
        nisa.tensor_tensor(dst=a, data1=a, data2=b, op=nl.add)
        nisa.dma_copy(dst=out, src=a)
        return out

    op = Op("add", {{"x": ("M", "N"), "y": ("M", "N")}}, lambda x, y: x + 2 * y, [{{"M": 5, "N": 100}}],
            dtypes=("float32",), nki=kernel, triton=launch, torch=lambda x, y: x + 2 * y)
"""
ALL = "x.stride(0), x.stride(1), y.stride(0), y.stride(1)"


@pytest.mark.parametrize(
    ("strides", "prepare", "passes"),
    [
        (ALL, "pass", True),
        ("N, 1, N, 1", "x, y = x.contiguous(), y.contiguous()", True),
        ("N, 1, N, 1", "pass", False),
        ("x.stride(0), x.stride(1), x.stride(0), x.stride(1)", "pass", False),
        ("x.stride(0), 1, y.stride(0), 1", "pass", False),
    ],
)
def test_a_launcher_that_takes_strides_for_granted_fails(tmp_path, strides, prepare, passes):
    pytest.importorskip("triton")
    pytest.importorskip("torch")
    path = tmp_path / "add.py"
    path.write_text(textwrap.dedent(FILE.format(strides=strides, prepare=prepare)))
    backends = ("nki-sim", "torch", "triton-cpu")
    tasks = plan(Request(sources=(str(path),), backends=backends, sets=("adversarial",), names="*-strided")).tasks
    results = {result.backend: result for result in runner.run(tasks, Settings(), timeout_s=120)}
    ended = {backend: result.status for backend, result in results.items()}
    right = Status.PASSED
    assert (ended["nki-sim"], ended["torch"]) == (right, right), "the same values, contiguous or as PyTorch has them"
    assert ended["triton-cpu"] in ([right] if passes else [Status.FAILED, Status.ERROR])
    if ended["triton-cpu"] is Status.FAILED:
        told = results["triton-cpu"].attribution
        assert told.cause == "logic" and "it takes x and y for contiguous" in told.text and "x.stride(0)" in told.text


ROWS = """
import triton
import triton.language as tl
from triptych import Op

@triton.jit
def double(x, out, N, x_m, x_n, BLOCK: tl.constexpr):
    m = tl.program_id(0){cast}
    n = tl.arange(0, BLOCK)
    tl.store(out + m * N + n, 2 * tl.load(x + m * x_m + n * x_n, mask=n < N), mask=n < N)

def launch(x, out):
    double[(x.shape[0],)](x, out, x.shape[1], x.stride(0), x.stride(1), BLOCK=64)

op = Op("double", {{"x": ("M", "N")}}, lambda x: 2 * x, [{{"M": 5, "N": 50}}], dtypes=("float32",), triton=launch)
"""


@pytest.mark.parametrize(("cast", "wraps"), [(".to(tl.int64)", False), ("", True)])
def test_an_offset_of_32_bits_is_told_before_a_tensor_is_so_large(tmp_path, cast, wraps):
    pytest.importorskip("triton")
    path = tmp_path / "double.py"
    path.write_text(ROWS.format(cast=cast))
    request = Request(sources=(str(path),), backends=("triton-cpu",), sets=("adversarial",), names="*-strided")
    (result,) = runner.run(plan(request).tasks, Settings(), timeout_s=120)
    assert result.status is Status.PASSED and bool(result.notes) is wraps
    if wraps:
        (note,) = result.notes
        assert "offsets wrap where an input has 2**31 elements" in note and "compute them in 64 bits" in note
        assert "the kernel reads element -2147483" in note


def test_elements_far_apart_are_the_same_and_take_no_room():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    far = layouts.far_apart({"x": x, "pair": x[:, :2, :2], "row": x[0, 0]})
    assert np.array_equal(far["x"], x) and far["x"].strides == (16, 2**30 * 4, 4)
    assert far["pair"].strides == x[:, :2, :2].strides, "no stride of two rows has 32 bits"
    assert far["row"].strides == (4,)
