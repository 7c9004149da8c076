"""Arguments and outputs: arrays of NumPy, PyTorch and JAX in and out, nested, and what happens to inputs."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import triptych
from triptych import simulator
from triptych.simulator import KernelError, NkiError
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.lint.live import LintWarning

with simulated_nki():
    import nki
    import nki.isa as nisa
    import nki.language as nl
    import nki.typing as nt

A = np.arange(12, dtype=np.float32).reshape(3, 4)
BF16 = ml_dtypes.bfloat16
SHARED = ("float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int8", "int16", "int32", "uint8", "bool")
Pair = namedtuple("Pair", "left right")


def copied(a, dtype=None):
    """A new tensor in HBM that holds `a`, by way of a tile."""
    tile, out = nl.ndarray(a.shape, a.dtype), nl.ndarray(a.shape, dtype or a.dtype, nl.shared_hbm)
    nisa.dma_copy(tile, a)
    nisa.dma_copy(out, tile)
    return out


def scaled(a, factor=2.0):
    """a * factor, in a's dtype"""
    tile, out = nl.ndarray(a.shape, a.dtype), nl.ndarray(a.shape, a.dtype, nl.shared_hbm)
    nisa.dma_copy(tile, a)
    nisa.tensor_scalar(tile, tile, nl.multiply, factor)
    nisa.dma_copy(out, tile)
    return out


def both(a, b):
    return scaled(a, 3.0), scaled(b, -1.0)


def fill(a, value):
    """Sets all but the first row of `a`."""
    tile = nl.ndarray((a.shape[0] - 1, a.shape[1]), a.dtype)
    nisa.memset(tile, value)
    nisa.dma_copy(a[1:], tile)


def overwrite(a, value=7.0):
    """Sets all but the first row of its input, and returns a copy of what it then holds."""
    fill(a, value)
    return copied(a)


def overwritten(a, value=7.0):
    expected = a.copy()
    expected[1:] = value
    return expected


def returns(value):
    def kernel(a):
        return value(a)

    return kernel


def same(out, expected):
    np.testing.assert_array_equal(np.asarray(out).astype(np.float32), np.asarray(expected).astype(np.float32))


# Outputs


def test_outputs_are_nested_as_the_kernel_nests_them():
    def kernel(a, b):
        return Pair(scaled(a, 2.0), (scaled(b, 3.0), None)), {"sum": [copied(a)]}

    pair, rest = simulator.run(kernel, A, A + 1).outputs
    assert isinstance(pair, Pair) and pair.right[1] is None and list(rest) == ["sum"]
    same(pair.left, 2 * A)
    same(pair.right[0], 3 * (A + 1))
    same(rest["sum"][0], A)
    first, second = simulator.run(both, A, A + 1).outputs
    same(first, 3 * A)
    same(second, -(A + 1))


def test_outputs_are_apart_from_arguments_and_from_each_other():
    outputs = simulator.run(scaled, A, 1.0).outputs
    outputs[...] = -1
    assert A[0, 1] == 1

    def twice(a):
        out = scaled(a, 1.0)
        return out, out, a

    first, second, argument = simulator.run(twice, A).outputs
    first[...] = -1
    second[0] = -2
    assert (first == -1).all() and (second[1] != -1).any() and (argument == A).all()
    assert not np.shares_memory(argument, A)


def test_a_kernel_that_writes_to_its_argument_may_return_nothing():
    a = A.copy()
    assert simulator.run(fill, a, 7.0).outputs is None
    same(a, overwritten(A))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda a: None, "kernel returns None and writes to none of its arguments"),
        (lambda a: A, "kernel must return HBM tensors, got ndarray"),
        (lambda a: (a, 3), "kernel must return HBM tensors, got int"),
        (lambda a: (a, {"x": "y"}), "kernel must return HBM tensors, got str"),
        (lambda a: nl.ndarray((2, 2), nl.float32, name="tile"), "kernel returns 'tile' in sbuf; an output is a tensor"),
        (lambda a: nl.ndarray((2, 2), nl.float32, nl.psum), "in psum; an output is a tensor in nl.shared_hbm"),
        (lambda a: nl.ndarray((2, 2), nl.float32, nl.shared_hbm), "4 of 4 elements never written"),
    ],
)
def test_wrong_returns_say_so(value, words):
    with pytest.raises(KernelError, match=words):
        simulator.run(returns(value), A)


# Inputs


def test_bools_stay_bools():
    a = A > 3
    out = simulator.run(scaled, a).outputs
    assert out.dtype == bool
    same(out, a)
    assert simulator.run(copied, a, nl.uint8).outputs.dtype == np.uint8
    simulator.run(fill, a, 2)
    assert a.view(np.uint8).max() == 1 and a[1:].all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: A.copy(),
        lambda: np.asfortranarray(A),
        lambda: np.zeros((3, 8), np.float32)[:, ::2],
        lambda: A.copy()[::-1],
        lambda: A.astype(BF16),
        lambda: A.astype(np.float16).T.copy().T,
        lambda: A.astype(np.int32),
        lambda: np.zeros((3, 4), ml_dtypes.float8_e5m2),
    ],
)
@pytest.mark.parametrize("rounding", [True, False])
def test_inputs_are_updated_in_place_whatever_their_layout(make, rounding):
    a = make()
    expected = overwritten(a, 7)
    run = simulator.run(overwrite, a, 7, options=simulator.Options(round_low_precision=rounding))
    same(a, expected)
    same(run.outputs, expected)
    assert run.outputs.dtype == a.dtype


def test_a_read_only_input_may_be_read_and_returned_but_not_written_in_vain():
    frozen = A.copy()
    frozen.flags.writeable = False
    same(simulator.run(scaled, frozen).outputs, 2 * A)
    with pytest.raises(KernelError, match="writes to its argument a, which is a read-only array; return the tensor"):
        simulator.run(overwrite, frozen)
    same(simulator.run(lambda a: (fill(a, 7.0), a)[1], frozen).outputs, overwritten(A))
    same(frozen, A)


def test_an_input_that_is_only_read_keeps_its_bits():
    """NaN payloads too, also where the input had to be copied."""
    bits = np.array([[0x7F800001, 0xFFC00123]], np.uint32).repeat(2, axis=1)
    a = bits.view(np.float32)[:, ::2]
    simulator.run(scaled, a)
    np.testing.assert_array_equal(np.ascontiguousarray(a).view(np.uint32), bits[:, ::2])


def test_an_input_can_be_returned():
    same(simulator.run(returns(lambda a: a), A).outputs, A)
    same(simulator.run(returns(lambda a: a[1:, ::2]), A).outputs, A[1:, ::2])


@dataclass
class Weights(nl.NKIObject):
    w: np.ndarray
    more: tuple | list = ()
    calls: int = 0


def test_arrays_inside_tuples_dicts_and_objects():
    def kernel(pair, config, table):
        config.calls += 1
        assert [t.name for t in (*pair, config.w, *config.more, table["x"])] == [
            "pair[0]",
            "pair[1]",
            "config.w",
            "config.more[0]",
            "table['x']",
        ]
        assert isinstance(pair, Pair) and config.calls == 1
        fill(config.w, 5.0)
        return tuple(copied(t) for t in (pair.left, config.w, config.more[0], table["x"]))

    config = Weights(A.copy(), more=[A + 2])
    outputs = simulator.run(nki.jit(kernel)[2], Pair(A, A + 1), config=config, table={"x": A + 3}).outputs
    for out, expected in zip(outputs, (A, overwritten(A, 5), A + 2, A + 3), strict=True):
        same(out, expected)
    same(config.w, overwritten(A, 5))
    assert config.calls == 0  # the compiler has a copy of the object


def test_a_list_is_taken_with_a_warning_and_a_tuple_without():
    def kernel(pair):
        return copied(pair[1])

    same(simulator.run(kernel, (A, A + 1)).outputs, A + 1)
    same(simulator.run(kernel, [A, A + 1], options=simulator.Options(lint=False)).outputs, A + 1)
    with pytest.warns(LintWarning, match="list-argument: argument pair is a list, and a kernel takes tuples") as seen:
        same(simulator.run(nki.jit(kernel)[2], [A, A + 1]).outputs, A + 1)
    assert {w.filename for w in seen} == {__file__}


def test_the_arguments_of_partials_are_arguments():
    kernel = nki.jit(both)
    bound = functools.partial(functools.partial(kernel[2], A), b=A + 1)
    run = simulator.run(bound)
    same(run.outputs[1], -(A + 1))
    assert {e.core for e in run.trace.events} == {0, 1}


def test_variable_arguments_have_names():
    def kernel(*tensors, **named):
        return tuple(copied(t) for t in (*tensors, *named.values()))

    outputs = simulator.run(kernel, A, A + 1, x=A + 2).outputs
    same(outputs[2], A + 2)
    with pytest.raises(KernelError, match=r"argument tensors\[1\] has dtype float64"):
        simulator.run(kernel, A, A.astype(np.float64))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (A[:0], r"argument a has shape \(0, 4\); every axis needs at least one element"),
        (np.array(1.0), r"argument a has shape \(\); every axis needs at least one element"),
        (A.astype(np.float64), "argument a has dtype float64, which is not a dtype of NKI; cast it to float32"),
        (A.astype(np.int64), "has dtype int64, which is not a dtype of NKI; cast it to int32"),
        (A.astype(np.uint64), "cast it to uint32"),
        (A.astype(np.complex64), r"has dtype complex64, which is not a dtype of NKI \["),
        (A.astype(">f4"), "has dtype >f4, which is not a dtype of NKI"),
        (np.array([["a"]]), "has dtype <U1, which is not a dtype of NKI"),
        ((A, A.astype(np.float64)), r"argument a\[1\] has dtype float64"),
    ],
)
def test_what_cannot_be_an_argument_says_so(value, words):
    with pytest.raises(KernelError, match=words):
        simulator.run(returns(lambda a: a), value)


def test_an_unsupported_dtype_is_a_type_error_too():
    with pytest.raises(TypeError, match="not a dtype of NKI"):
        simulator.run(returns(lambda a: a), A.astype(np.float64))


def test_a_tensor_of_another_kernel_is_no_argument():
    kept = []
    simulator.run(returns(lambda a: kept.append(a) or a), A)
    with pytest.raises(KernelError, match="argument a is NkiTensor.*, which lives inside another kernel"):
        simulator.run(scaled, kept[0])


def test_a_declared_shape_is_checked():
    def kernel(a: nt.tensor[3, 4], b: nt.tensor[2] = None, c: nt.tensor = None):
        return copied(a)

    kernel.__annotations__ = {"a": nt.tensor[3, 4], "b": nt.tensor[2], "c": nt.tensor}
    same(simulator.run(kernel, A, c=A).outputs, A)
    with pytest.raises(KernelError, match=r"argument a is declared nki.typing.tensor\[3, 4\], got shape \(4, 3\)"):
        simulator.run(kernel, np.ones((4, 3), np.float32))
    with pytest.raises(KernelError, match=r"argument b is declared nki.typing.tensor\[2\], got shape \(2, 1\)"):
        simulator.run(kernel, A, b=np.ones((2, 1), np.float32))


def test_neither_pytorch_nor_jax_is_imported():
    code = (
        "import sys, numpy as np, triptych\nfrom triptych import simulator\nimport nki\n"
        "nki.simulate(lambda a: a)(np.ones((2, 2), np.float32))\n"
        "print([m for m in ('torch', 'jax') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(triptych.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# PyTorch


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("name", [*SHARED, "float8_e8m0fnu", "uint16", "uint32"])
def test_torch_tensors_come_back_as_torch_tensors(torch, name):
    dtype = getattr(torch, name)
    value = 1 if name == "bool" else 4 if "e8m0" in name else 7
    a = torch.full((3, 4), 2.0).to(dtype)
    out = nki.simulate(overwrite)(a, value)
    expected = torch.full((3, 4), 2.0).to(dtype).to(torch.float32)
    expected[1:] = value
    assert isinstance(out, torch.Tensor) and out.dtype == dtype
    assert torch.equal(out.to(torch.float32), expected) and torch.equal(a.to(torch.float32), expected)
    pair = nki.simulate(lambda a: (copied(a), (copied(a), None)))(a)
    assert pair[0].dtype == dtype and isinstance(pair[1][0], torch.Tensor) and pair[1][1] is None


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float8_e5m2"])
def test_torch_tensors_of_any_layout(torch, name):
    dtype = getattr(torch, name)
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6).to(dtype)
    a = base.t()[::2]
    out = nki.simulate(lambda t: overwrite(t, 3.0))(a)
    expected = torch.arange(24, dtype=torch.float32).reshape(4, 6).to(dtype).t()[::2].to(torch.float32).clone()
    expected[1:] = 3
    assert torch.equal(out.to(torch.float32), expected) and torch.equal(a.to(torch.float32), expected)
    assert torch.equal(base.t()[1].to(torch.float32), torch.arange(24.0).reshape(4, 6).to(dtype).t()[1].float())


def test_torch_inside_tuples_and_beside_numpy(torch):
    out = nki.simulate(lambda pair, w: (copied(pair[0]), scaled(w)))((torch.ones(2, 2), "x"), A)
    assert [type(t) for t in out] == [torch.Tensor] * 2 and torch.equal(out[1], torch.from_numpy(2 * A))
    assert isinstance(simulator.run(scaled, torch.ones(2, 2)).outputs, torch.Tensor)


def test_torch_parameters_run_forward_and_say_so_backward(torch):
    weight = torch.nn.Parameter(torch.ones(2, 2))
    out = nki.simulate(scaled)(weight)
    assert torch.equal(out, torch.full((2, 2), 2.0)) and out.requires_grad
    with pytest.raises(KernelError, match="scaled is a kernel and has no derivative: wrap it in a torch.autograd.Func"):
        out.sum().backward()
    with torch.no_grad():
        assert not nki.simulate(scaled)(weight).requires_grad
    assert not nki.simulate(scaled)(weight.detach()).requires_grad


def test_torch_trains_through_a_function_of_the_callers(torch):
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            return nki.simulate(scaled)(a)

        @staticmethod
        def backward(ctx, gradient):
            return 2 * gradient

    weight = torch.nn.Parameter(torch.ones(2, 2))
    Twice.apply(weight).sum().backward()
    assert torch.equal(weight.grad, torch.full((2, 2), 2.0))


def test_torch_tensors_that_cannot_be_arguments_say_so(torch):
    for value, words in (
        (torch.ones(2, 2, dtype=torch.float64), "argument a has dtype float64.*; cast it to float32"),
        (torch.arange(4).reshape(2, 2), "argument a has dtype int64.*; cast it to int32"),
        (torch.ones(2, 2, dtype=torch.complex64), "argument a has dtype complex64, which is not a dtype of NKI"),
        (torch.tensor(1.0), r"argument a has shape \(\)"),
        (torch.ones(0, 2), r"argument a has shape \(0, 2\)"),
        (torch.ones(2, 2, device="meta"), "is a torch.strided tensor on meta; give a dense one on the CPU"),
        (torch.ones(2, 2).to_sparse(), "is a torch.sparse_coo tensor on cpu; give a dense one"),
    ):
        with pytest.raises(KernelError, match=words):
            nki.simulate(returns(lambda a: a))(value)


def test_an_output_that_pytorch_has_no_dtype_for_says_so(torch):
    with pytest.raises(TypeError, match="copied returns float8_e4m3, which PyTorch .* does not have; return .view"):
        nki.simulate(copied)(torch.ones(2, 2), nl.float8_e4m3)


# JAX


@pytest.fixture(scope="module")
def jax():
    return pytest.importorskip("jax")


@pytest.mark.parametrize("name", [*SHARED, "float8_e4m3", "uint16", "uint32"])
def test_jax_arrays_come_back_as_jax_arrays(jax, name):
    dtype = np.dtype(name if name == "bool" else getattr(ml_dtypes, name, name))
    a = jax.numpy.asarray(np.full((3, 4), 2.0, np.float32)).astype(dtype)
    out, (again,) = nki.simulate(lambda a: (copied(a), (copied(a),)))(a)
    for x in (out, again):
        assert isinstance(x, jax.Array) and x.dtype == dtype
        same(x, a)
    assert isinstance(simulator.run(scaled, a=a).outputs, jax.Array)


def test_a_jax_array_cannot_be_written_but_what_is_written_can_be_returned(jax):
    a = jax.numpy.asarray(A)
    with pytest.raises(KernelError, match="overwrite writes to its argument a, which is a JAX array, which cannot"):
        nki.simulate(overwrite)(a)
    same(nki.simulate(lambda a: (fill(a, 7.0), a)[1])(a), overwritten(A))
    same(a, A)


def test_jax_arguments_that_cannot_be_say_so(jax):
    with pytest.raises(KernelError, match="argument a is a tracer of jax.jit, jax.grad or jax.vmap, which has no val"):
        jax.jit(nki.simulate(scaled))(jax.numpy.asarray(A))
    with pytest.raises(KernelError, match=r"argument a has shape \(\)"):
        nki.simulate(scaled)(jax.numpy.float32(1.0))
    with pytest.raises(KernelError, match="argument a has dtype int4, which is not a dtype of NKI"):
        nki.simulate(scaled)(jax.numpy.ones((2, 2), jax.numpy.int4))


def test_jax_scalar_types_are_dtypes(jax):
    def kernel(a, dtype, pair):
        assert dtype == nl.bfloat16 and pair == (nl.float16, 1)
        return copied(a, dtype)

    out = nki.simulate(kernel)(A, jax.numpy.bfloat16, (jax.numpy.float16, 1))
    assert isinstance(out, np.ndarray) and out.dtype == BF16
    with pytest.raises(TypeError, match="jnp.float64 is not a dtype of NKI; cast it to float32"):
        nki.simulate(kernel)(A, jax.numpy.float64, (jax.numpy.float16, 1))


def test_pytorch_and_jax_together_say_so(jax, torch):
    with pytest.raises(NkiError, match="both is given arrays of PyTorch and of JAX; outputs can be of one kind only"):
        nki.simulate(both)(torch.ones(2, 2), jax.numpy.ones((2, 2)))
    out = nki.simulate(both)(A, jax.numpy.asarray(A))
    assert [isinstance(x, jax.Array) for x in out] == [True, True]
