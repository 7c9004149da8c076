"""Creation and movement functions of nki.language: what the tensors hold, and the instructions that fill them."""

from __future__ import annotations

import inspect
import math

import ml_dtypes
import numpy as np
import pytest
from kernel_parts import here, issued

from triptych import simulator
from triptych.simulator import NkiValidationError, OutOfBounds, Uninitialized
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.language as nl

F32 = np.float32


def hbm(c, values, dtype=None):
    return c.tile(values, dtype, buffer="shared_hbm")


# Creation


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e5m2", "int8", "uint32", "bool_"])
@pytest.mark.parametrize("buffer", ["sbuf", "psum", "shared_hbm", "private_hbm"])
def test_constant_tensors(core, cast, same, dtype, buffer):
    where = getattr(nl, buffer)
    with core() as c:
        for made, value in (
            (nl.zeros((6, 10), dtype, where, "z"), 0),
            (nl.ones((6, 10), dtype, buffer=where), 1),
            (nl.full((6, 10), 1, dtype, where), 1),
        ):
            assert (made.shape, made.dtype, made.buffer) == ((6, 10), dtype, where)
            assert same(made, cast(np.full((6, 10), value), dtype))
        assert {e.line[0] for e in c.trace.events} == {__file__}
        count = c.trace.count()
        assert count == ({"memset": 3} if buffer in ("sbuf", "psum") else {"memset": 3, "dma_copy": 3})


def test_a_constant_in_hbm_of_any_size(core, same):
    with core():
        for shape in ((7,), (131, 3), (300, 700), (2, 128, 2049)):
            assert same(nl.full(shape, -1.5, nl.float32, nl.shared_hbm), np.full(shape, -1.5, F32))


def test_a_fill_value_fits_its_dtype(refused):
    refused(
        lambda c: nl.full((2, 2), 1.5, nl.int32), "nisa.memset at test_wrappers.*must be an integer that int32 holds"
    )
    refused(lambda c: nl.ones((2, 2), nl.float8_e4m3fn_x4), "can only be set to 0")
    refused(lambda c: nl.zeros((2, 2), nl.float32, "sbuf"), "nl.zeros at test_wrappers.*buffer must be nl.sbuf")


def test_like(core, same):
    with core() as c:
        x = c.tile(np.ones((4, 8), F32), "bfloat16", buffer="psum")
        zeros = nl.zeros_like(x)
        assert (zeros.shape, zeros.dtype, zeros.buffer) == ((4, 8), "bfloat16", nl.sbuf) and same(
            zeros, np.zeros((4, 8))
        )
        zeros = nl.zeros_like(x, nl.int32, nl.psum)
        assert (zeros.dtype, zeros.buffer) == ("int32", nl.psum)
        empty = nl.empty_like(x)
        assert (empty.shape, empty.dtype, empty.buffer) == ((4, 8), "bfloat16", nl.psum)
        with pytest.raises(Uninitialized):
            nl.copy(empty)
        assert nl.empty_like(x, dtype=nl.float32, buffer=nl.hbm).buffer is nl.hbm


def test_shared_constant(core, same, tmp_path):
    values = np.arange(12).reshape(3, 4).astype(ml_dtypes.bfloat16)
    with core() as c:
        constant = nl.shared_constant(values)
        assert (constant.buffer, constant.dtype) == (nl.shared_hbm, "bfloat16") and same(constant, values)
        assert not c.trace.events
        np.save(tmp_path / "c.npy", np.arange(5, dtype=np.int16))
        assert same(nl.shared_constant(str(tmp_path / "c.npy")), np.arange(5))
        with pytest.raises(NkiValidationError, match="must be a readable .npy file"):
            nl.shared_constant("there/is/none.npy")
        with pytest.raises(NkiValidationError, match="is not a dtype of NKI"):
            nl.shared_constant(np.zeros(3))
        with pytest.raises(NkiValidationError, match="a NumPy array or the path"):
            nl.shared_constant([1, 2])
        for dtype in (bool, ml_dtypes.float8_e4m3):
            with pytest.raises(NkiValidationError, match="a constant of dtype .* is not supported"):
                nl.shared_constant(np.zeros(3, dtype))


def test_shared_identity_matrix(core, same):
    with core() as c:
        eye = nl.shared_identity_matrix(4)
        assert (eye.dtype, eye.buffer) == ("uint8", nl.sbuf) and same(eye, np.eye(4))
        dst = c.empty((128, 128), "bfloat16")
        assert nl.shared_identity_matrix(n=128, dtype=nl.bfloat16, dst=dst) is dst and same(dst, np.eye(128))
        assert issued(c) == [("dma_copy", "dma")] * 2
        with pytest.raises(NkiValidationError, match="at most 128"):
            nl.shared_identity_matrix(129)
        with pytest.raises(NkiValidationError, match=r"dst must be \(4, 4\)"):
            nl.shared_identity_matrix(4, dst=dst)


# Movement


def test_load_and_store(core, cast, same, refused):
    x = np.random.default_rng(0).normal(size=(6, 9)).astype(F32)
    with core() as c:
        source, out = hbm(c, x), c.empty((6, 9), "float32", "shared_hbm")
        loaded, line = nl.load(source), here()
        assert (loaded.buffer, loaded.dtype) == (nl.sbuf, "float32") and same(loaded, x)
        assert c.trace.events[0].line == line
        half = nl.load(source[1:3, 2:], dtype=nl.bfloat16)
        assert half.dtype == "bfloat16" and same(half, cast(x[1:3, 2:], "bfloat16"))
        assert nl.store(out, value=loaded) is None and same(out, x)
        nl.store(out[1:3, 2:], half)
        assert same(out[1:3, 2:], cast(x[1:3, 2:], "bfloat16"))
        assert issued(c) == [("dma_copy", "dma")] * 4
    refused(lambda c: nl.load(c.tile(x)), "src must be a tensor in HBM")
    refused(lambda c: nl.load(c.empty((129, 2), buffer="shared_hbm")), "at most 128")
    refused(lambda c: nl.store(c.tile(x), c.tile(x)), "dst must be a tensor in HBM")
    refused(
        lambda c: nl.store(c.empty((6, 9), buffer="shared_hbm"), c.tile(x, buffer="psum")),
        r"nl.store at test_wrappers.*value must be a tile in SBUF.*copy it there first.*NKI 0.3.0, Known Issues",
    )


def test_load_transpose2d(core, cast, same, refused):
    x = np.random.default_rng(0).normal(size=(40, 12)).astype(F32)
    with core() as c:
        assert same(nl.load_transpose2d(hbm(c, x)), x.T)
        assert same(nl.load_transpose2d(hbm(c, x), nl.bfloat16), cast(x.T, "bfloat16"))
        assert issued(c) == [("dma_transpose", "dma")] * 2 + [("tensor_copy", "vector")]
    refused(lambda c: nl.load_transpose2d(hbm(c, np.ones((2, 2, 2), F32))), "must have two dimensions")


@pytest.mark.parametrize("buffer", ["sbuf", "psum"])
def test_copy_keeps_every_bit(core, cast, same, buffer):
    x = np.array([[2**24 + 1, -7, 2**31 - 1]], np.int32)
    with core() as c:
        tile = c.tile(x, buffer=buffer)
        copied = nl.copy(tile)
        assert copied.buffer is nl.sbuf and copied is not tile and same(copied, x)
        assert same(nl.copy(tile, nl.bfloat16), cast(x.astype(F32), "bfloat16"))
        assert issued(c) == [("tensor_copy", "vector")] * 2


def test_transpose(core, cast, same, refused):
    x = np.random.default_rng(0).normal(size=(128, 40)).astype(F32)
    x[0, 0] = np.nan
    with core() as c:
        flipped = nl.transpose(c.tile(x))
        assert flipped.buffer is nl.psum and same(flipped, x.T)
        assert same(nl.transpose(c.tile(x), dtype=nl.bfloat16), cast(x.T, "bfloat16"))
        assert same(nl.transpose(c.tile(x[:32, :32], buffer="psum")), x[:32, :32].T)
        assert issued(c) == [
            ("nc_transpose", "tensor"),
            ("nc_transpose", "tensor"),
            ("tensor_copy", "vector"),
            ("nc_transpose", "vector"),
        ]
    refused(lambda c: nl.transpose(c.tile(np.ones((2, 2, 2), F32))), "must have two dimensions")
    low = np.ones((4, 6), F32)
    refused(lambda c: nl.transpose(c.tile(low, "bfloat16")), "must be float32", on=("trn1",), fine=("trn2",))
    with core("trn1") as c:  # where the Tensor Engine writes float32 alone, the cast is its own
        assert nl.transpose(c.tile(low, "bfloat16"), dtype=nl.float32).dtype == "float32"
        assert issued(c) == [("nc_transpose", "tensor")]
        nl.transpose(c.tile(low, "bfloat16", buffer="psum"), dtype=nl.float32)
        assert issued(c)[1:] == [("nc_transpose", "vector"), ("tensor_copy", "vector")]
    refused(lambda c: nl.transpose(c.tile(np.ones((2, 200), F32))), "at most 128")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_matmul(core, cast, refused, dtype):
    rng = np.random.default_rng(0)
    x, y = (cast(rng.normal(size=s).astype(F32), dtype) for s in ((64, 32), (64, 100)))
    with core("trn3") as c:
        product = nl.matmul(c.tile(x, dtype), c.tile(y, dtype), transpose_x=True)
        assert (product.buffer, product.dtype, product.shape) == (nl.psum, dtype, (32, 100))
        rounded = cast(x.astype(F32).T @ y.astype(F32), dtype).astype(F32)
        np.testing.assert_allclose(product.f32(), rounded, 1e-2 if dtype == "bfloat16" else 1e-5, 1e-5)
        assert issued(c) == [("nc_matmul", "tensor")]
    refused(
        lambda c: nl.matmul(c.tile(x, dtype), c.tile(y, dtype)), "nl.matmul at .*without transpose_x=True.*Known Issues"
    )
    low = (
        lambda c: nl.matmul(c.tile(x, dtype), c.tile(y, dtype), True),
        "nl.matmul at .*float32 alone.*nki-samples#134",
    )
    old = ("trn1", "inf2", "trn2")
    refused(*low, on=old if dtype == "bfloat16" else (), fine=("trn3",) if dtype == "bfloat16" else old)
    refused(lambda c: nl.matmul(c.tile(x, dtype), c.tile(y, dtype, "psum"), True), "y must be a tile in SBUF")
    wide = np.ones((64, 513), F32)
    refused(lambda c: nl.matmul(c.tile(x.astype(F32)), c.tile(wide), True), "free size of y is at most 512")


def test_expand_dims_is_a_view(core, refused):
    with core() as c:
        x = c.tile(np.ones((4, 6), F32))
        assert [nl.expand_dims(x, a).shape for a in (1, 2, -1, -2)] == [(4, 1, 6), (4, 6, 1), (4, 6, 1), (4, 1, 6)]
        assert not c.trace.events and nl.expand_dims(x, 1).storage is x.storage
    refused(lambda c: nl.expand_dims(c.tile(np.ones((4, 6), F32)), 0), "not before the partition")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "float8_e4m3fn"])
@pytest.mark.parametrize("buffer", ["sbuf", "psum"])
def test_broadcast_to(core, cast, same, dtype, buffer):
    rng = np.random.default_rng(0)
    with core() as c:
        for small, large in (((4, 1), (4, 7)), ((4, 1, 3), (4, 5, 3)), ((1, 600), (37, 600)), ((1, 1, 3), (128, 2, 3))):
            x = cast(rng.normal(size=small).astype(F32) * 50, dtype)
            result = nl.broadcast_to(c.tile(x, dtype, buffer), shape=large)
            assert result.buffer is nl.sbuf and result.dtype == dtype and same(result, np.broadcast_to(x, large))
            assert {e.line[0] for e in c.trace.events} == {__file__}
        tensor_engine = any(e.op == "nc_matmul" for e in c.trace.events)
        assert tensor_engine is (dtype in ("float32", "bfloat16"))


def test_broadcast_to_the_same_shape_is_the_tile_itself(core, same, refused):
    x = np.array([[1.25, np.inf]], F32)
    with core() as c:
        tile = c.tile(x)
        assert nl.broadcast_to(tile, (1, 2)) is tile and not c.trace.events
        assert same(nl.broadcast_to(tile, (1, 2), nl.bfloat16), x)
        assert nl.broadcast_to(tile, (1, 2), nl.bfloat16).dtype == "bfloat16"
        assert same(nl.broadcast_to(tile, (9, 2), dtype=nl.bfloat16), np.repeat(x, 9, 0))
    refused(lambda c: nl.broadcast_to(c.tile(x), (2, 3)), "must have x's rank")
    refused(lambda c: nl.broadcast_to(c.tile(x), (2, 1, 2)), "must have x's rank")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize(("data", "index"), [((6, 20), (6, 7)), ((6, 2, 5), (6, 3, 2)), ((128, 64), (128, 600))])
def test_gather_flattened(core, cast, same, dtype, data, index):
    rng = np.random.default_rng(0)
    x = cast(rng.normal(size=data).astype(F32) * 50, dtype)
    at = rng.integers(0, math.prod(data[1:]), index).astype(np.uint32)
    expected = np.take_along_axis(x.reshape(data[0], -1), at.reshape(data[0], -1), 1).reshape(index)
    with core() as c:
        gathered = nl.gather_flattened(c.tile(x, dtype), c.tile(at))
        assert gathered.dtype == dtype and gathered.buffer is nl.sbuf and same(gathered, expected)
        assert issued(c) == [("nc_n_gather", "gpsimd")]
        wide = nl.gather_flattened(c.tile(x, dtype), c.tile(at), dtype=nl.float32)
        assert wide.dtype == "float32" and same(wide, expected.astype(F32))


def test_limits_of_gather_flattened(core, refused):
    def gather(c, axis=0, dtype="uint32", data="sbuf", largest=2):
        at = np.array([[0, largest]])
        return nl.gather_flattened(c.tile(np.ones((1, 3), F32), buffer=data), c.tile(at, dtype), axis)

    refused(lambda c: gather(c, axis=1), "axis must be 0, its default")
    refused(lambda c: gather(c, dtype="int32"), "indices must be uint32")
    refused(lambda c: gather(c, data="psum"), "data must be a tile in SBUF")
    refused(lambda c: nl.gather_flattened(np.ones((1, 3)), c.empty((1, 1))), "data must be a tile in SBUF or")
    with core() as c, pytest.raises(OutOfBounds, match="index 3 is outside the 3 elements"):
        gather(c, largest=3)


# The rest


def test_a_kernel_of_functions_only_and_its_lines():
    def kernel(a, b):
        out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
        with nl.no_reorder():
            x = nl.load(a)
            y = nl.load(b)
            nl.store(out, nl.add(nl.exp(x), y))
        return out

    a, b = np.random.default_rng(0).normal(size=(2, 128, 32)).astype(F32)
    run = simulator.run(kernel, a, b)
    np.testing.assert_allclose(run.outputs, np.exp(a) + b, 1e-6)
    first = inspect.getsourcelines(kernel)[1]
    lines = [(e.op, e.line[1] - first) for e in run.trace.events]
    assert lines == [("dma_copy", 3), ("dma_copy", 4), ("activation", 5), ("tensor_tensor", 5), ("dma_copy", 5)]


def test_an_error_of_an_instruction_names_it_and_the_line(core):
    with core() as c, pytest.raises(Uninitialized, match=r"nisa.tensor_tensor at test_wrappers_movement.py:\d+: reads"):
        nl.add(c.empty((2, 2)), c.empty((2, 2)))
