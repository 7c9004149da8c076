"""Operators of PyTorch: PyTorch's own checks of each, and gradients on the simulator against PyTorch's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import triptych  # noqa: E402
import triptych.torch as tt  # noqa: E402
from triptych.harness.functions.rows import rows  # noqa: E402
from triptych.harness.pytorch.operators import OPERATORS  # noqa: E402

F = torch.nn.functional
TARGETS = torch.tensor([3, -100, 7, 2])
ANGLES = torch.linspace(0, 3, 12).reshape(3, 4)


@dataclass(frozen=True)
class Function:
    """A function of triptych.torch, what PyTorch has for it, and the shapes of its tensors."""

    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]

    def inputs(self, dtype: Any) -> list[Any]:
        torch.manual_seed(0)
        return [torch.randn(shape, dtype=torch.float64).to(dtype).requires_grad_() for shape in self.shapes]


def turned(x: Any, interleaved: bool) -> Any:
    """The rotation as complex numbers."""
    pairs = x.unflatten(-1, (-1, 2)) if interleaved else x.unflatten(-1, (2, -1)).transpose(-1, -2)
    angles = ANGLES.to(x.dtype)
    out = torch.view_as_real(
        torch.view_as_complex(pairs.contiguous()) * torch.polar(torch.ones_like(angles), angles)[:, None]
    )
    return (out if interleaved else out.transpose(-1, -2)).flatten(-2)


def tables(x: Any) -> tuple[Any, Any]:
    return ANGLES.to(x.dtype).cos(), ANGLES.to(x.dtype).sin()


FUNCTIONS = (
    Function(
        "attention",
        lambda q, k, v: tt.attention(q, k, v, causal=True),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
        ((1, 4, 5, 4), (1, 2, 5, 4), (1, 2, 5, 4)),
    ),
    Function(
        "attention of a window",
        lambda q, k, v: tt.attention(q, k, v, causal=True, window=3),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.ones(3, 7).bool().tril(4).triu(2)),
        ((1, 2, 3, 4), (1, 2, 7, 4), (1, 2, 7, 4)),
    ),
    Function("linear", tt.linear, F.linear, ((2, 3, 16), (12, 16), (12,))),
    Function(
        "linear of a weight in [in, out]",
        lambda x, w, bias: tt.linear(x, w.t(), bias),
        lambda x, w, bias: F.linear(x, w.t(), bias),
        ((2, 3, 16), (16, 12), (12,)),
    ),
    Function("matmul", tt.matmul, torch.matmul, ((2, 3, 16), (16, 12))),
    Function("matmul of batches", tt.matmul, torch.matmul, ((2, 3, 16), (2, 16, 12))),
    Function(
        "gated_mlp",
        tt.gated_mlp,
        lambda x, gate, up, down, residual: (F.silu(x @ gate.t()) * (x @ up.t())) @ down.t() + residual,
        ((5, 16), (24, 16), (24, 16), (12, 24), (5, 12)),
    ),
    Function("rms_norm", tt.rms_norm, lambda x, gain: F.rms_norm(x, (16,), gain, 1e-5), ((2, 3, 16), (16,))),
    Function("rope", lambda x: tt.rope(x, *tables(x)), lambda x: turned(x, False), ((3, 2, 8),)),
    Function(
        "rope in turns",
        lambda x: tt.rope(x, *tables(x), interleaved=True),
        lambda x: turned(x, True),
        ((3, 2, 8),),
    ),
    Function(
        "cross_entropy", lambda x: tt.cross_entropy(x, TARGETS), lambda x: F.cross_entropy(x, TARGETS), ((4, 32),)
    ),
)
each = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.name)


@each
def test_gradients_are_those_of_finite_differences(function: Function) -> None:
    assert torch.autograd.gradcheck(function.ours, function.inputs(torch.float64), fast_mode=True)


@each
def test_forward_and_gradients_on_the_simulator_agree_with_pytorchs(function: Function) -> None:
    inputs = function.inputs(torch.float32)
    with tt.on_cpu("nki-sim", target="trn2"), tt.calls() as made:
        out = function.ours(*inputs)
        given = torch.randn(out.shape)
        gradients = torch.autograd.grad(out, inputs, given)
    wide = [x.detach().double().requires_grad_() for x in inputs]
    right = function.theirs(*wide)
    for ours, theirs in zip((out, *gradients), (right, *torch.autograd.grad(right, wide, given.double())), strict=True):
        triptych.assert_agree(ours.detach(), theirs.float().detach())
    assert made.count() == made.count(backend="nki-sim") >= 2 and not made.left


@pytest.mark.slow
@each
def test_forward_and_gradients_in_the_interpreter_agree_or_name_the_kernel_that_is_missing(function: Function) -> None:
    pytest.importorskip("triton")
    inputs = function.inputs(torch.float32)
    with tt.on_cpu("triton-cpu"), tt.calls() as made:
        try:
            out = function.ours(*inputs)
        except tt.NoKernel as error:
            missing = {name for name, row in rows().items() if row.triton is None}
            assert missing & set(re.findall(r"\w+", str(error)))
            return
        given = torch.randn(out.shape)
        gradients = torch.autograd.grad(out, inputs, given)
    wide = [x.detach().double().requires_grad_() for x in inputs]
    right = function.theirs(*wide)
    for ours, theirs in zip((out, *gradients), (right, *torch.autograd.grad(right, wide, given.double())), strict=True):
        triptych.assert_agree(ours.detach(), theirs.float().detach())
    assert made.count() == made.count(backend="triton-cpu") >= 2


@pytest.mark.parametrize("name", ["attention", "gated_mlp"])
def test_bfloat16_goes_through_the_simulator_as_bfloat16(name: str) -> None:
    (function,) = [f for f in FUNCTIONS if f.name == name]
    inputs = function.inputs(torch.bfloat16)
    with tt.on_cpu("nki-sim", target="trn2"), tt.calls() as made:
        out = function.ours(*inputs)
        given = torch.randn(out.shape).to(out.dtype)
        gradients = torch.autograd.grad(out, inputs, given)
    wide = [x.detach().double().requires_grad_() for x in inputs]
    right = function.theirs(*wide)
    for ours, theirs in zip((out, *gradients), (right, *torch.autograd.grad(right, wide, given.double())), strict=True):
        assert ours.dtype == torch.bfloat16
        assert float(((ours - theirs).norm() / theirs.norm()).detach()) < 2 * 2**-8
    assert {dtype for call in made.made for _, dtype in call.arrays.values()} <= {"bfloat16", "float32"}


def samples() -> dict[str, tuple[Any, ...]]:
    """Arguments for each operator as it is registered."""

    def x(*shape: int, dtype: Any = torch.float32) -> Any:
        return torch.randn(shape, dtype=dtype)

    q, kv, lse = x(1, 2, 3, 4), x(1, 1, 5, 4), x(1, 2, 3)
    labels, lengths = torch.tensor([1, -1, 2], dtype=torch.int32), torch.tensor([2], dtype=torch.int32)
    return {
        "attention": (q, kv, kv, True, None, None, None, x(1, 1, 3, 5)),
        "attention_lse": (x(1, 2, 3, 4).requires_grad_(), kv, kv, True, 2),
        "attention_backward": (q, kv, kv, q, q, lse, True),
        "attention_decode": (x(1, 2, 1, 4), x(1, 1, 1, 4), x(1, 1, 1, 4), x(1, 1, 5, 4), x(1, 1, 5, 4), lengths),
        "matmul": (x(4, 3), x(4, 5)),
        "matmul_mk": (x(3, 4).requires_grad_(), x(4, 5).requires_grad_()),
        "matmul_batched": (x(2, 4, 3).requires_grad_(), x(2, 4, 5)),
        "linear": (x(3, 4).requires_grad_(), x(4, 5).requires_grad_(), x(5).requires_grad_()),
        "linear_transposed": (x(3, 4).requires_grad_(), x(5, 4).requires_grad_()),
        "gated_mlp": (x(3, 4).requires_grad_(), x(4, 6), x(4, 6), x(6, 2).requires_grad_()),
        "gate_backward": (x(3, 4), x(3, 4), x(3, 4)),
        "rms_norm": (x(3, 4).requires_grad_(), x(4).requires_grad_(), 1e-6),
        "rms_norm_backward": (x(3, 4), x(4), x(3, 4)),
        "rope": (x(3, 2, 4).requires_grad_(), x(3, 2), x(3, 2), True),
        "cross_entropy": (x(3, 5).requires_grad_(), labels),
        "cross_entropy_backward": (x(3, 5), labels, x(3), x(3)),
    }


@pytest.mark.parametrize("name", OPERATORS)
def test_opcheck_passes(name: str) -> None:
    torch.library.opcheck(OPERATORS[name].custom, samples()[name])


def on_gpu() -> list[str]:
    """The operators that a compiler sees as launches: those that change no argument and have a Triton kernel."""
    found = []
    for name, arguments in samples().items():
        operator = OPERATORS[name]
        if not operator.mutates and rows()[operator.row_of(operator.given(arguments, {}))].triton is not None:
            found.append(name)
    return found


@pytest.mark.parametrize("name", on_gpu())
def test_a_compiler_sees_nothing_but_launches_on_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced without one: tensors have shapes and a device, and no numbers; Triton's driver tells of a Hopper GPU."""
    pytest.importorskip("triton")
    from torch._functorch.aot_autograd import aot_function

    from triptych.harness.emulators import devices

    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # or Triton 3.9 warns of what 3.10 will do
    arguments, seen = samples()[name], []

    def call(*tensors: Any) -> Any:
        given = iter(tensors)
        return OPERATORS[name](*(next(given) if isinstance(x, torch.Tensor) else x for x in arguments))

    def compiler(graph: Any, inputs: Any) -> Any:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph

    fake = torch._subclasses.fake_tensor.FakeTensorMode()
    with torch.no_grad(), devices.pretend(devices.DEVICES["sm_90"]), fake:
        tensors = [torch.empty(x.shape, dtype=x.dtype, device="cuda") for x in arguments if isinstance(x, torch.Tensor)]
        aot_function(call, fw_compiler=compiler)(*tensors)
    assert "triton_kernel_wrapper_functional" in seen and not [target for target in seen if "triptych" in target]


def test_a_backward_pass_calls_the_rows_that_it_says() -> None:
    """By which a gradient that has no kernel is refused before anything is computed."""
    for name, operator in OPERATORS.items():
        if not operator.backward_rows:
            continue
        inputs = [x.detach().requires_grad_() if is_float(x) else x for x in samples()[name]]
        if name == "rope":
            inputs[1:3] = [x.detach() for x in inputs[1:3]]
        with tt.calls() as made:
            out = operator(*inputs)
            (out[0] if isinstance(out, tuple) else out).sum().backward()
        rows = {call.row for call in made.made[1:]}
        assert rows == set(operator.backward_rows), name


def is_float(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.is_floating_point()


def test_a_compiled_function_calls_the_operators() -> None:
    def layer(x: Any, gain: Any, w: Any) -> Any:
        return tt.linear(tt.rms_norm(x, gain), w).relu()

    torch.manual_seed(0)
    inputs = [torch.randn(shape).requires_grad_() for shape in ((3, 8), (8,), (5, 8))]
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with tt.calls() as made:
        out = compiled(*inputs)
        gradients = torch.autograd.grad(out.sum(), inputs)
    assert made.count("rms_norm") == made.count("linear_transposed") == made.count("rms_norm_backward") == 1
    right = layer(*inputs)
    for ours, theirs in zip((out, *gradients), (right, *torch.autograd.grad(right.sum(), inputs)), strict=True):
        assert torch.equal(ours, theirs)
