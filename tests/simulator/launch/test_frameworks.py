"""Tensors of PyTorch and arrays of JAX, in and out."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from argument_parts import BF16, SHARED, A, both, copied, fill, overwrite, overwritten, returns, same, scaled

from triptych import simulator
from triptych.simulator import KernelError, NkiError
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki
    import nki.language as nl


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
    with pytest.raises(KernelError, match=r"argument a has dtype key<fry>, which is not a dtype of NKI"):
        nki.simulate(scaled)(jax.random.split(jax.random.key(0)))
    with pytest.raises(KernelError, match="argument a has dtype int4, which is not a dtype of NKI"):
        nki.simulate(scaled)(jax.numpy.ones((2, 2), jax.numpy.int4))


def test_jax_scalar_types_are_dtypes(jax):
    def kernel(a, dtype, pair):
        assert dtype == nl.bfloat16 and pair == (nl.float16, 1)
        return copied(a, dtype)

    out = nki.simulate(kernel)(A, jax.numpy.bfloat16, (jax.numpy.float16, 1))
    assert isinstance(out, np.ndarray) and out.dtype == BF16
    kept = jax.ShapeDtypeStruct((2, 2), np.float64)  # has a dtype, and is none
    assert nki.simulate(lambda a, given: copied(a if given is kept else given))(A, kept).shape == A.shape
    with pytest.raises(TypeError, match="jnp.float64 is not a dtype of NKI; cast it to float32"):
        nki.simulate(kernel)(A, jax.numpy.float64, (jax.numpy.float16, 1))


def test_pytorch_and_jax_together_say_so(jax, torch):
    with pytest.raises(NkiError, match="both is given arrays of PyTorch and of JAX; outputs can be of one kind only"):
        nki.simulate(both)(torch.ones(2, 2), jax.numpy.ones((2, 2)))
    out = nki.simulate(both)(A, jax.numpy.asarray(A))
    assert [isinstance(x, jax.Array) for x in out] == [True, True]


def test_a_class_that_is_no_scalar_type_of_jax_stays_what_it_is():
    other = type("Meta", (type,), {"__module__": "jax.elsewhere"})("Other", (), {})

    def kernel(a, option):
        assert option is other
        return copied(a)

    same(nki.simulate(kernel)(A, other), A)
