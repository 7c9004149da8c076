"""The emulation of Gluon: what its names compute, what roles may not do, and what it refuses."""

import numpy as np
import pytest
import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier, tma
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from triptych.harness.emulators import EmulationError, NotEmulated, ReadOnlyError, interpret
from triptych.harness.emulators.gluon.machine import Deadlock
from triptych.harness.emulators.gluon.values import Scalar

if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 9):
    pytest.skip("written in the Gluon of Triton 3.9", allow_module_level=True)

BLOCK = [16, 64]


@gluon.jit
def copied(x, out, way: gl.constexpr):
    """A block of x, doubled, to out, or what is wrong with `way`."""
    tile = gl.allocate_shared_memory(x.dtype, [2, 16, 64], x.layout)
    ready = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    if way != "not initialised":
        mbarrier.init(ready, count=1)
    row = gl.program_id(0) * 16
    expected = x.nbytes_per_cta
    if way == "too many bytes":
        expected = 2 * expected
    mbarrier.expect(ready, expected)
    tma.async_load(x, [row, 0], ready, tile.index(0))
    if way == "a pointer's name":
        gl.load(x)
    if way == "stored too early":
        tile.index(0).store(gl.zeros([16, 64], x.dtype, layout=gl.BlockedLayout([1, 1], [1, 32], [4, 1], [1, 0])))
    if way != "left behind":
        mbarrier.wait(ready, 0)
    if way == "arrives twice":
        mbarrier.arrive(ready, count=2)
    if way == "a third place":
        tile.index(2)
    if way != "left behind":
        values = tile.index(0).load(gl.BlockedLayout([1, 1], [1, 32], [4, 1], [1, 0]))
        tile.index(1).store((values * 2).to(x.dtype))
        fence_async_shared()
        to = out
        if way == "an input":
            to = x
        tma.async_store(to, [row, 0], tile.index(1))
        tma.store_wait(0)


def launch(x, out, way=""):
    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    described = [TensorDescriptor.from_tensor(tensor, BLOCK, layout) for tensor in (x, out)]
    copied[(triton.cdiv(x.shape[0], 16),)](*described, way, num_warps=4)


def interpreted(way="", rows=40, columns=72):
    x = np.arange(rows * columns, dtype=np.float16).reshape(rows, columns) / 64
    out = np.full_like(x, -1)
    interpret(launch, {"x": x}, out, way=way)
    return x, out


def test_a_block_is_copied_and_what_lies_beyond_its_ends_is_not_written():
    x, out = interpreted()
    assert np.array_equal(out[:, :64], 2 * x[:, :64]) and np.all(out[:, 64:] == -1)


@pytest.mark.parametrize(
    ("way", "kind", "says"),
    [
        ("not initialised", EmulationError, "barrier 1 is used before mbarrier.init"),
        ("too many bytes", Deadlock, r"waiting are default for phase 0 of barrier 1 \(test_gluon.py:"),
        ("stored too early", EmulationError, "a store by threads writes shared memory while a copy of 'x'"),
        ("left behind", EmulationError, "the program ends while a copy of 'x'"),
        ("arrives twice", EmulationError, "more than 1 arrive in one phase of barrier 1"),
        ("a third place", EmulationError, "index 2 of shared memory that has 2 places"),
        ("a pointer's name", NotEmulated, "the emulation of Gluon has no language.load"),
        ("an input", ReadOnlyError, "the kernel writes to its input 'x'"),
    ],
)
def test_what_a_role_may_not_do_is_told(way, kind, says):
    with pytest.raises(kind, match=says) as raised:
        interpreted(way)
    assert "test_gluon.py:" in str(raised.value)


def test_a_tensor_that_is_no_descriptor_is_refused():
    def pointers(x, out):
        copied[(1,)](x, out, "", num_warps=4)

    x = np.zeros((16, 64), np.float16)
    with pytest.raises(NotEmulated, match="takes tensors as descriptors for TMA; 'x' is a pointer"):
        interpret(pointers, {"x": x}, np.zeros_like(x))


def test_integers_divide_towards_zero_as_the_compilers_do_and_end_at_32_bits():
    assert (Scalar(-7) // 2, Scalar(-7) % 2, Scalar(7) // -2, Scalar(7) % -2) == (-3, -1, -3, 1)
    assert type(3 - Scalar(1)) is Scalar and 3 - Scalar(1) == 2
    with pytest.raises(NotEmulated, match="2147483648 is beyond 32 bits"):
        Scalar(2**31 - 1) + 1
