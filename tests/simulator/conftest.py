"""One simulated core for a test to put tiles on, and NumPy's own idea of a cast.

`with core("trn2") as c:` makes a core current; `c.tile(values)` is a tile that holds values, in one of several layouts
whose surroundings are never written, so that an instruction which reads beside its operand is caught.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from kernel_parts import hbm

from triptych import simulator
from triptych.simulator import NkiError, NkiValidationError
from triptych.simulator.chips import chip_of
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.machine import Machine
from triptych.simulator.machine.shape_only import ShapeMachine
from triptych.simulator.memory.storage import MemoryRegion
from triptych.simulator.options import Options
from triptych.simulator.running import on_machine
from triptych.simulator.trace import Trace

with simulated_nki():
    import nki
    import nki.isa as nisa
    import nki.language as nl

TARGETS = ("trn1", "trn2", "trn3")
NUMPY = {
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3": ml_dtypes.float8_e4m3,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
    "tfloat32": np.float32,
    "bool_": np.uint8,
}


def pytest_collection_modifyitems(items):
    """A test's kernel may use Python that AWS does not document (a lambda, zip); what AWS rejects stays an error."""
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("ignore:(undocumented|for-iterable):triptych.simulator.LintWarning"))


class Core:
    """A core of `target` while the `with` block runs. Remarks are errors on it, unless it is told otherwise."""

    def __init__(self, target="trn2", **options):
        chip = chip_of(target)
        options.setdefault("strict", True)
        self.trace = Trace(chip, target)
        self.machine = (Machine if options.get("data", True) else ShapeMachine)(chip, self.trace, Options(**options))
        self._contexts = [on_machine(self.machine), np.errstate(all="ignore")]

    def __enter__(self):
        for context in self._contexts:
            context.__enter__()
        return self

    def __exit__(self, *exc):
        for context in reversed(self._contexts):
            context.__exit__(*exc)

    def empty(self, shape, dtype="float32", buffer="sbuf"):
        return self.machine.allocate(shape, dtype, MemoryRegion[buffer])

    def place(self, shape, dtype="float32", buffer="sbuf", layout="dense"):
        """A view with nothing in it, the tensor that it is of, and the same view of an array of that tensor's shape.

        Layouts: dense, strided, window, partitions, split, permuted, reversed and, to be read only, broadcast.
        """
        p, *free = shape
        f = free[-1] if free else 0
        even = len(shape) == 2 and f % 2 == 0
        if layout == "strided":
            whole, key = (p, *free[:-1], 2 * f + 1), (..., slice(1, 2 * f + 1, 2))
        elif layout == "window":
            whole, key = (p, *free[:-1], f + 5), (..., slice(3, 3 + f))
        elif layout == "partitions" and p <= 32:
            whole, key = (128, *free), (slice(64, 64 + p),)
        else:
            whole, key = shape, (...,)
        if layout == "permuted" and even:
            around = self.empty((p, 2, f // 2), dtype, buffer)
            return around.permute((0, 2, 1)), around, lambda array: array.transpose(0, 2, 1)
        if layout == "broadcast" and len(shape) == 2:
            around = self.empty((p, 1), dtype, buffer)
            return around.broadcast(1, f), around, lambda array: np.broadcast_to(array, shape)
        around = self.empty(whole, dtype, buffer)
        if layout == "split" and even:
            return around.reshape_dim(1, (f // 2, 2)), around, lambda array: array
        if layout == "reversed" and len(shape) == 2:
            return around.ap([[f, p], [-1, f]], f - 1), around, lambda array: array[:, ::-1]
        return around[key], around, lambda array: array[key]

    def tile(self, values, dtype=None, buffer="sbuf", layout="dense"):
        """A tensor that holds `values`."""
        values = np.asarray(values)
        view, _, _ = self.place(values.shape, dtype or values.dtype, buffer, layout)
        view.array[...] = values.reshape(view.shape)
        view.wrote()
        return view

    def random(self, seed, shape, dtype="float32"):
        """Values of `dtype`: normal for floats, any bits for integers."""
        rng = np.random.default_rng(seed)
        kind = np.dtype(NUMPY.get(dtype, dtype))
        if dtype == "bool_":
            return rng.integers(0, 2, shape).astype(np.uint8)
        if kind.kind in "iu":
            info = np.iinfo(kind)
            return rng.integers(info.min, info.max, shape, kind, endpoint=True)
        return cast(rng.standard_normal(shape).astype(np.float32), dtype)


def cast(values, dtype):
    """`values` in `dtype`, rounded to nearest even; integers saturate and NaN becomes 0."""
    kind = np.dtype(NUMPY.get(dtype, dtype))
    values = np.asarray(values)
    if dtype == "tfloat32":
        mantissa, exponent = np.frexp(values.astype(np.float64))
        return np.ldexp(np.rint(mantissa * 2.0**11), exponent - 11).astype(np.float32)
    if kind.kind not in "iu":
        with np.errstate(all="ignore"):
            return values.astype(kind)
    info = np.iinfo(kind)
    exact = np.nan_to_num(np.rint(values.astype(np.float64)), nan=0.0)
    return np.clip(exact, info.min, info.max).astype(np.int64).astype(kind)


def same(tile, expected):
    """The tile holds exactly `expected`, NaN where NaN is expected."""
    tile.check_written()
    got = np.asarray(tile.array).reshape(np.shape(expected))
    expected = np.asarray(expected)
    if got.dtype.kind in "iub":
        np.testing.assert_array_equal(got, expected)
    else:
        np.testing.assert_array_equal(got.astype(np.float32), expected.astype(np.float32))
    return True


def refused(call, words, on=TARGETS, fine=()):
    """`call(core)` raises NkiValidationError saying `words` on the targets `on`, and not on `fine`."""
    for target in on:
        with Core(target) as c, pytest.raises(NkiValidationError, match=words):
            call(c)
    for target in fine:
        with Core(target) as c:
            call(c)


def exchanged(call, x, shape, buffer=None):
    """In a kernel: `call(src, dst)` on tensors of its own in `buffer`, src holding x; an output that holds dst."""
    buffer = buffer or hbm()
    src, dst = nl.ndarray(x.shape, x.dtype, buffer), nl.ndarray(shape, x.dtype, buffer)
    nisa.dma_copy(dst=src, src=x)
    call(src, dst)
    out = nl.ndarray(shape, x.dtype, nl.shared_hbm)
    nisa.dma_copy(dst=out, src=dst)
    return out


def everywhere(kernel, xs, cores=1, target="trn2", options=None):
    """Run `kernel` on one rank for each of `xs`: their outputs, stacked, and their traces."""
    runs = simulator.run_ranks(nki.jit(kernel)[cores], [(x,) for x in xs], target=target, options=options)
    return np.stack([run.outputs for run in runs]), [run.trace for run in runs]


@pytest.fixture(autouse=True)
def words_of_the_message_alone(monkeypatch):
    """`match` looks at notes too, and an error's note is the line of the test, on which the words often stand."""
    monkeypatch.setattr(NkiError, "__notes__", [])


@pytest.fixture(scope="session")
def core():
    return Core


@pytest.fixture(scope="session", name="cast")
def cast_fixture():
    return cast


@pytest.fixture(scope="session", name="same")
def same_fixture():
    return same


@pytest.fixture(scope="session", name="refused")
def refused_fixture():
    return refused


@pytest.fixture(scope="session", name="exchanged")
def exchanged_fixture():
    return exchanged


@pytest.fixture(scope="session", name="everywhere")
def everywhere_fixture():
    return everywhere
