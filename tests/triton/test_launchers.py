"""Host functions as people write them: of other modules, autotuned, wrapped, that allocate, view, and return.

Each is right as it is and wrong with one change, which is seen.
"""

from __future__ import annotations

import functools
import sys
import types

import ml_dtypes
import numpy as np
import pytest
import triton
import triton.language as tl

import triptych
from triptych.harness.commands import cli
from triptych.harness.emulators import EmulationError, KernelRaised, OutOfBoundsError, interpret
from triptych.harness.emulators.errors import ReadOnlyError
from triptych.harness.exit_codes import ExitCode
from triptych.harness.unwritten import UNWRITTEN

torch = pytest.importorskip("torch")

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@triton.jit
def double_kernel(x, y, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(y + at, tl.load(x + at, mask=at < n) * 2, mask=at < n)


elsewhere = types.ModuleType("elsewhere")  # a module of kernels
elsewhere.k = double_kernel


def blocks(n):
    return (triton.cdiv(n, 64),)


def of_another_module(x, out):
    elsewhere.k[blocks(x.numel())](x, out, x.numel(), B=64)


def allocating(x):
    y = torch.empty_like(x)
    double_kernel[blocks(x.numel())](x, y, x.numel(), B=64)
    return y


def allocating_too_little_work(x):
    y = torch.empty_like(x)
    double_kernel[blocks(x.numel())](x, y, x.numel() - 1, B=64)
    return y


def through_scratch(x, out):
    scratch = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    double_kernel[blocks(x.numel())](x, scratch, x.numel(), B=64)
    double_kernel[blocks(x.numel())](scratch, out, x.numel(), B=64)


def through_unwritten_scratch(x, out):
    scratch = torch.empty(x.shape, dtype=torch.float32, device="cuda")
    double_kernel[blocks(x.numel())](scratch, out, x.numel(), B=64)


def asking(x, out):
    assert x.is_cuda and x.device.type == "cuda" and x.is_contiguous()
    assert torch.cuda.get_device_capability(x.device) >= (8, 0)
    with torch.cuda.device(x.device), torch.cuda.stream(torch.cuda.Stream()):
        flat = x.view(-1).to("cuda").contiguous()
        zero = out.zero_().reshape(-1)
        double_kernel[blocks(x.numel())](flat, zero, x.numel(), B=64)
    torch.cuda.synchronize()


def wrapped(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        return f(*args, **kwargs)

    return wrapper


class Doubling:
    def __call__(self, x, out):
        of_another_module(x, out)


@pytest.mark.parametrize(
    ("launcher", "factor"),
    [
        (of_another_module, 2),
        (through_scratch, 4),
        (asking, 2),
        (wrapped(of_another_module), 2),
        (Doubling(), 2),
        (functools.partial(of_another_module), 2),
    ],
)
@pytest.mark.parametrize("dtype", [np.dtype(np.float32), BFLOAT16], ids=str)
def test_launchers_that_write_to_out(launcher, factor, dtype):
    x = np.arange(100).astype(dtype)
    out = np.full_like(x, np.nan)
    assert interpret(launcher, {"x": x}, out) is None
    assert np.array_equal(out, x * dtype.type(factor))


def test_a_launcher_that_returns_what_it_made():
    x = np.arange(100).astype(BFLOAT16)
    y = interpret(allocating, {"x": x}, None)
    assert y.dtype == BFLOAT16 and np.array_equal(y, x * BFLOAT16.type(2))
    assert interpret(lambda x: (allocating(x), {"n": 3}), {"x": x}, None)[1] == {"n": 3}


def test_what_was_not_written_is_poison_wherever_it_was_allocated():
    y = interpret(allocating_too_little_work, {"x": np.ones(100, np.float32)}, None)
    assert np.isfinite(y[:-1]).all() and y[-1:].view(np.uint32) == UNWRITTEN[4]
    out = np.zeros(100, np.float32)
    interpret(through_unwritten_scratch, {"x": np.ones(100, np.float32)}, out)
    assert np.isnan(out).all()


def test_poison_comes_in_every_dtype():
    with triptych.interpret():
        for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn):
            for made in (torch.empty(3, dtype=dtype, device="cuda"), torch.ones(2, dtype=dtype).new_empty((3, 2))):
                assert torch.isnan(made.float()).all()
        assert torch.empty(4, dtype=torch.int32).min() > 10**9
        assert torch.empty(4, dtype=torch.bool).all()
        assert not torch.zeros(4, device="cuda").any()


def writing_to_its_input(x, out):
    double_kernel[blocks(x.numel())](x, x, x.numel(), B=64)


def beyond_its_scratch(x, out):
    scratch = torch.empty(x.numel() - 10, device=x.device)
    double_kernel[blocks(x.numel())](x, scratch, x.numel(), B=64)


def test_out_of_bounds_is_told_of_tensors_that_a_launcher_made():
    x, out = np.ones(100, np.float32), np.zeros(100, np.float32)
    with pytest.raises(
        OutOfBoundsError,
        match=r"writes element 99 of 'y', which has 90 elements \(shape \(90,\)\).*test_launchers.py:\d+",
    ):
        interpret(beyond_its_scratch, {"x": x}, out)
    with pytest.raises(ReadOnlyError, match=r"writes to its input 'x' in program.*test_launchers.py:\d+"):
        interpret(writing_to_its_input, {"x": x}, out)


CONFIGS = [triton.Config({"B": 64}), triton.Config({"B": 128}, num_warps=8)]
first_config = functools.partial(triton.autotune, key=["n"])


@first_config(configs=CONFIGS)
@triton.heuristics({"EVEN": lambda arguments: arguments["n"] % arguments["B"] == 0})
@triton.jit
def tuned_kernel(x, y, n, B: tl.constexpr, EVEN: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    if EVEN:
        tl.store(y + at, tl.load(x + at) * 2)
    else:
        tl.store(y + at, tl.load(x + at, mask=at < n) * 2, mask=at < n)


@first_config(configs=CONFIGS, prune_configs_by={"early_config_prune": lambda configs, named, **kwargs: configs[1:]})
@triton.jit
def pruned_kernel(y, n, B: tl.constexpr):
    tl.store(y + tl.program_id(0), B)


@triton.heuristics({"EVEN": lambda arguments: True})
@triton.jit
def misjudged_kernel(x, y, n, B: tl.constexpr, EVEN: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(y + at, tl.load(x + at, mask=(at < n) | EVEN), mask=(at < n) | EVEN)


def tuned(x, out):
    tuned_kernel[lambda meta: (triton.cdiv(x.numel(), meta["B"]),)](x, out, x.numel())


def test_autotuning_and_heuristics_stacked():
    for n in (100, 128):
        x, out = np.ones(n, np.float32), np.zeros(n, np.float32)
        interpret(tuned, {"x": x}, out)
        assert np.all(out == 2)
    with pytest.raises(OutOfBoundsError):
        interpret(
            lambda x, out: misjudged_kernel[(2,)](x, out, 100, B=64),
            {"x": np.ones(100, np.float32)},
            np.zeros(100, np.float32),
        )
    out = np.zeros(1, np.float32)
    interpret(lambda out: pruned_kernel[(1,)](out, 1), {}, out)
    assert out[0] == 128, "the first that is not pruned"


@triton.jit
def gather_kernel(table, out, which, N: tl.constexpr):
    pointer = tl.load(table + which).to(tl.pointer_type(tl.float32))
    tl.store(out + tl.arange(0, N), tl.load(pointer + tl.arange(0, N)))


def by_pointer_table(x, y, out, which, beyond=0):
    table = torch.tensor([x.data_ptr(), y.data_ptr() + 4 * beyond], dtype=torch.int64, device=x.device)
    gather_kernel[(1,)](table, out, which, N=16)


@pytest.mark.parametrize("which", [0, 1])
def test_a_table_of_pointers(which):
    arrays = {"x": np.arange(16, dtype=np.float32), "y": -np.arange(16, dtype=np.float32)}
    out = np.zeros(16, np.float32)
    interpret(by_pointer_table, arrays, out, which=which)
    assert np.array_equal(out, arrays["xy"[which]])


def test_a_pointer_of_a_table_is_checked():
    arrays = {"x": np.zeros(16, np.float32), "y": np.zeros(16, np.float32)}
    with pytest.raises(OutOfBoundsError, match="reads element 18 of 'y'"):
        interpret(by_pointer_table, arrays, np.zeros(16, np.float32), which=1, beyond=3)


def test_a_grid_that_cuda_does_not_take_is_told():
    with pytest.raises(EmulationError, match="axis 1 of a grid has 65535 programs at most on CUDA, got 65536"):
        interpret(lambda out: double_kernel[(1, 2**16)](out, out, 1, B=16), {}, np.zeros(1, np.float32))
    with pytest.raises(KernelRaised, match="takes no float32 as its argument n"):
        interpret(lambda out: double_kernel[(1,)](out, out, np.float32(1), B=16), {}, np.zeros(1, np.float32))
    with pytest.raises(EmulationError, match=r"double_kernel is called without a grid"):
        interpret(lambda out: double_kernel(out, out, 1, 16), {}, np.zeros(1, np.float32))


def test_any_wrapper_runs_in_a_with_block():
    x = torch.linspace(-3, 3, 1000).to(torch.bfloat16)
    before = dict(vars(torch.cuda))
    with triptych.interpret():
        y = allocating(x)
        assert y.is_cuda and y.device == torch.device("cuda", 0)
        wrong = allocating_too_little_work(x)
    assert not y.is_cuda and dict(vars(torch.cuda)) == before
    triptych.assert_agree(y, 2 * x)
    with pytest.raises(AssertionError):
        triptych.assert_agree(wrong, 2 * x)
    with triptych.interpret(), pytest.raises(OutOfBoundsError, match=r"element 1023 of 'x'.*test_launchers.py:\d+"):
        double_kernel[(16,)](x, y, 1024, B=64)


def test_gradients_flow_through_a_wrapper():
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return allocating(x)

        @staticmethod
        def backward(ctx, gradient):
            return allocating(gradient.contiguous())

    x = torch.ones(100, requires_grad=True)
    with triptych.interpret():
        Double.apply(x).sum().backward()
    assert torch.equal(x.grad, torch.full((100,), 2.0))


def test_without_torch_a_launcher_gets_a_stand_in_that_names_what_it_lacks(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr("triptych.harness.extras.why_not", lambda module: f"{module} is not installed")
    x, out = np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((2, 3), np.float32)

    def thin(x, out):
        assert x.is_cuda and str(x.device) == "cuda:0" and x.dim() == 2 and x.size() == (2, 3)
        scratch = x.new_zeros(x.shape)
        double_kernel[(1,)](x.view(-1).contiguous(), scratch, 6, B=64)
        double_kernel[(1,)](scratch, out.zero_(), 6, B=64)

    interpret(thin, {"x": x}, out)
    assert np.array_equal(out, 4 * x)
    assert np.isnan(interpret(lambda x: x.new_empty((4,)), {"x": x}, None)).all()
    with pytest.raises(EmulationError, match="the stand-in for a tensor has no 'softmax'.*pip install torch"):
        interpret(lambda x, out: x.softmax(0), {"x": x}, out)
    with pytest.raises(EmulationError, match="the launcher writes to an input"):
        interpret(lambda x, out: x.zero_(), {"x": x}, out)


def by_wrap_triton(x):
    y = torch.empty_like(x)
    torch.library.wrap_triton(double_kernel)[blocks(x.numel())](x, y, x.numel(), B=64)
    return y


def of_an_operator(factor):
    """A launcher within an operator of PyTorch's own registry, where no mode of PyTorch is on."""

    @torch.library.triton_op(f"triptych_tests::double_{factor}", mutates_args=())
    def double(x: torch.Tensor) -> torch.Tensor:
        y = torch.empty_like(x)
        torch.library.wrap_triton(double_kernel)[blocks(x.numel())](x, y, x.numel() if factor == 2 else 3, B=64)
        return y

    return double


@pytest.mark.skipif(not hasattr(torch.library, "triton_op"), reason="PyTorch 2.6 has it")
def test_launchers_that_torch_compile_can_trace():
    x = np.arange(100).astype(np.float32)
    assert np.array_equal(interpret(by_wrap_triton, {"x": x}, None), 2 * x)
    assert np.array_equal(interpret(of_an_operator(2), {"x": x}, None), 2 * x)
    assert not np.array_equal(interpret(of_an_operator(3), {"x": x}, None), 2 * x)
    assert torch._library.triton.is_wrap_triton_enabled()  # as before: else nothing is traced any more


ASKS_AT_IMPORT = """
import torch, triton, triton.language as tl
from triptych import Op

WARP = torch.cuda.get_device_properties(torch.cuda.current_device()).warp_size
assert triton.runtime.driver.active.get_current_target().backend == "cuda"

@triton.jit
def kernel(x, y, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(y + at, tl.load(x + at, mask=at < n) * 2, mask=at < n)

def launch(x, out):
    kernel[(triton.cdiv(x.numel(), WARP),)](x, out, x.numel(), B=WARP)

op = Op("double", {"x": ("N",)}, lambda x: 2 * x, [{"N": 100}], triton=launch)
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="what it asks for is here")
def test_a_file_that_asks_for_a_gpu_when_it_is_imported(tmp_path):
    path = tmp_path / "asks.py"
    path.write_text(ASKS_AT_IMPORT)
    words = ["check", str(path), "--cases", "smoke", "--dtype", "float32", "--backend", "triton-cpu", "-q"]
    assert cli.main(words) == ExitCode.OK
    path.write_text(ASKS_AT_IMPORT.replace("get_device_properties(", "no_such_function("))
    assert cli.main(words) == ExitCode.USAGE
    path.write_text(ASKS_AT_IMPORT.replace("* 2", "* 3"))
    assert cli.main(words) == ExitCode.MISMATCH
