"""Programs that are run together leave the bits that they leave one by one; those that cannot be are run one by one."""

import ml_dtypes
import numpy as np
import pytest
import triton
import triton.language as tl
from triton.language.extra import libdevice

from triptych.harness.emulators import EmulationError, interpret, replay
from triptych.harness.emulators.interpreter import together
from triptych.harness.emulators.interpreter.lanes import LanesBuilder
from triptych.harness.emulators.interpreter.launches import Launches

PROGRAMS, N = 21, 16  # 16 and 4 together, and one


@triton.jit
def _softplus(x, scale):
    return tl.where(x > 8.0, x, tl.log(1.0 + tl.exp(x))) * scale


@triton.jit
def _kernel(x, i, out, scale, rows, N: tl.constexpr, WHAT: tl.constexpr):
    me = tl.program_id(0)
    lane = tl.arange(0, N)
    at = me * N + lane
    if WHAT == "elements":
        tl.store(out + at, tl.load(x + at) * scale + me, mask=at < rows * N - 3)
    elif WHAT == "masked loads":
        value = tl.load(x + at, mask=lane < me, other=-1.0)
        tl.store(out + at, value + tl.load(x + lane, mask=lane < me) + tl.load(x + lane))
    elif WHAT == "softmax":
        value = tl.load(x + at).to(tl.float32)
        e = tl.exp(value - tl.max(value, axis=0))
        tl.store(out + at, e / tl.sum(e, axis=0))
    elif WHAT == "scalars":
        value = tl.load(x + me)
        tl.store(out + me, value * value)
        tl.store(out + rows + me, tl.load(x + rows) + tl.sum(tl.load(x + at)))
    elif WHAT == "integers":
        value = tl.load(i + at)
        tl.store(out + at, (value // 3 + value % 5 + (value >> 1) + me // 2 + tl.minimum(me, 4)).to(tl.float32))
    elif WHAT == "bits":
        value = (tl.load(i + at).to(tl.uint32) * 2654435761) ^ (me * 7).to(tl.uint32)
        tl.store(out + at, tl.abs(value.to(tl.float32, bitcast=True)), mask=value < 0x7F000000)
    elif WHAT == "tiles":
        tile = tl.load(x + me * N + lane[:, None] % 4 * 4 + tl.arange(0, 4)[None, :])
        turned = tl.trans(tile) - tl.max(tile, axis=1)[None, :]
        tl.store(out + at, tl.sum(turned, axis=0) + tl.reshape(tl.broadcast_to(me, (N,)), (N,)))
    elif WHAT == "product":
        tile = tl.load(x + me * N + lane[:, None] % 4 + tl.arange(0, 16)[None, :])
        same = tl.load(x + lane[:, None] * 16 + tl.arange(0, 16)[None, :])
        total = tl.zeros((N, 16), tl.float32)
        for _ in range(0, 3):
            total = tl.dot(tile, same, total)
        tl.store(out + at, tl.sum(total, axis=1))
    elif WHAT == "argmax":
        value, place = tl.max(tl.load(x + at), axis=0, return_indices=True)
        tl.store(out + at, value + place + tl.argmax(tl.load(x + lane) * me, axis=0))
    elif WHAT == "all of a tile":
        tile = tl.load(x + at)[:, None] + tl.arange(0, 2)[None, :]
        column = tl.sum(tile, axis=1, keep_dims=True) + tl.sum(tile, keep_dims=True) + tl.max(tile, axis=0)[None, :]
        tl.store(out + at, tl.max(column, axis=1) * tl.sum(tile))
    elif WHAT == "in two":
        low, high = tl.split(tl.reshape(tl.load(x + at), (N // 2, 2)))
        both = tl.join(high, libdevice.rsqrt(tl.abs(low) + 1.0))
        tl.store(out + at, tl.reshape(both, (N,)))
    elif WHAT == "a branch for all":
        value = tl.load(x + at)
        if me >= 0:
            value = -value
        for _ in range(me * 0, 2 + me * 0):
            value = value * 2.0
        tl.store(out + at, value)
    elif WHAT == "casts":
        value = tl.load(x + at)
        half = value.to(tl.bfloat16) * 3.0 + value.to(tl.float16).to(tl.bfloat16)
        tl.store(out + at, half.to(tl.float8e4nv).to(tl.float32) + half)
    elif WHAT == "a function":
        tl.store(out + at, _softplus(tl.load(x + at), 0.5))
    elif WHAT == "a loop":
        total = tl.zeros((N,), tl.float32)
        for k in range(0, rows):
            total += tl.load(x + k * N + lane) * me
        tl.store(out + at, total)
    elif WHAT == "a branch":
        value = tl.load(x + at)
        if me % 2 == 0:
            value = -value
        tl.store(out + at, value)
    elif WHAT == "its own bounds":
        total = tl.zeros((N,), tl.float32)
        for k in range(0, me):
            total += tl.load(x + k * N + lane)
        tl.store(out + at, total)
    elif WHAT == "in place":
        tl.store(out + at, 2.0 + tl.load(out + at))
    elif WHAT == "what an earlier one wrote":
        tl.store(out + at, 1.0 + tl.load(x + at) + tl.load(out + at - N, mask=me > 0, other=0.0))
    elif WHAT == "one place":
        tl.store(out + lane, tl.load(x + at))
    elif WHAT == "one place, twice":
        tl.store(out + at, tl.load(x + at))
        tl.store(out + at + N, tl.load(x + at), mask=at + N < rows * N)
    elif WHAT == "atomic":
        tl.atomic_add(out + at // 2, 1.0)
    elif WHAT == "a scan":
        tl.store(out + at, tl.cumsum(tl.load(x + at), axis=0))
    elif WHAT == "too far":
        tl.store(out + at, tl.load(x + at + me * 4))
    elif WHAT == "an input":
        tl.store(x + at, 1.0, mask=me == 7)


TOGETHER = (
    *("elements", "masked loads", "softmax", "scalars", "integers", "bits", "tiles", "product", "argmax"),
    *("all of a tile", "casts", "a function", "a loop", "in two"),
    "a branch for all",
)
APART = (
    *("a branch", "its own bounds", "in place", "what an earlier one wrote", "one place", "one place, twice"),
    *("atomic", "a scan"),
)
RNG = np.random.default_rng(0)
X = (RNG.standard_normal(PROGRAMS * N + 64) * 4).astype(np.float32)
X[N * 3 + 5 : N * 3 + 8] = np.nan, np.inf, -0.0
INTEGERS = RNG.integers(-1000, 1000, PROGRAMS * N + 64).astype(np.int32)


@pytest.fixture(autouse=True)
def forgotten():
    """No kernel is known to be unfit."""
    together._apart.clear()


@pytest.fixture
def passes(monkeypatch):
    """How often a kernel's Python is passed through: the number of programs that each time is for."""
    seen = []
    held_back = together._Together.held_back
    place = together.CorrectedBuilder.set_grid_idx

    def counted(self, places):
        found = held_back(self, places)
        seen.append(len(places))  # of those that did not go apart on the way
        return found

    def one(self, *at):
        seen.append(1)
        place(self, *at)

    monkeypatch.setattr(together._Together, "held_back", counted)
    monkeypatch.setattr(together.CorrectedBuilder, "set_grid_idx", one)
    return seen


def ran(what, monkeypatch, alone, how=interpret, dtype=np.float32, launches=None):
    """What a launch leaves; `alone`: with programs one by one."""
    with monkeypatch.context() as patch:
        if alone:
            patch.setattr(together, "FEWEST", 10**9)
        out = np.zeros(PROGRAMS * N, dtype)

        def launch(x, i, out):
            _kernel[(PROGRAMS,)](x, i, out, 0.37, PROGRAMS, N=N, WHAT=what)

        how(launch, {"x": X.copy(), "i": INTEGERS}, out, (), *([] if launches is None else [launches]))
        return out


def bits(values):
    """The bytes of values; of two NaNs, NumPy passes on one or the other as the operands lie in memory."""
    return np.where(np.isnan(values), np.asarray(np.nan, values.dtype), values).tobytes()


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("what", TOGETHER)
def test_programs_run_together_leave_the_same_bits(what, dtype, passes, monkeypatch):
    found = ran(what, monkeypatch, alone=False, dtype=dtype)
    assert passes == [1, 16, 4, 1]
    assert bits(found) == bits(ran(what, monkeypatch, alone=True, dtype=dtype))
    assert found.astype(np.float32).any()


@pytest.mark.parametrize("what", TOGETHER)
def test_so_do_those_without_rounding(what, monkeypatch):
    assert bits(ran(what, monkeypatch, alone=False, how=replay)) == bits(ran(what, monkeypatch, alone=True, how=replay))


@pytest.mark.parametrize("what", APART)
def test_programs_that_differ_or_meet_are_run_one_by_one(what, passes, monkeypatch):
    found = ran(what, monkeypatch, alone=False)
    assert passes.count(1) == PROGRAMS
    assert bits(found) == bits(ran(what, monkeypatch, alone=True))
    assert found.any()


@pytest.mark.parametrize("what", ["too far", "an input"])
def test_an_error_is_that_of_one_program(what, monkeypatch):
    said = []
    for alone in (False, True):
        with pytest.raises(EmulationError) as caught:
            ran(what, monkeypatch, alone)
        said.append(str(caught.value))
    assert said[0] == said[1] and "program (" in said[0]


@pytest.mark.parametrize("what", ["elements", "scalars", "one place", "what an earlier one wrote", "one place, twice"])
def test_whether_the_order_matters_is_seen_as_ever(what, monkeypatch):
    left = []
    for alone in (False, True):
        launches = Launches()
        ran(what, monkeypatch, alone, how=interpret, launches=launches)
        left.append([{at: data.tobytes() for at, data in some.items()} for some in launches.left.values()])
    assert left[0] == left[1]
    assert bool(left[0]) == (what in TOGETHER)


def test_batches_that_meet_one_another_are_seen_to(monkeypatch):
    monkeypatch.setattr(together, "MOST", 4)
    launches, out = Launches(), np.zeros(N, np.float32)

    @triton.jit
    def each_fourth(x, out):
        me = tl.program_id(0)
        tl.store(out + me % 4, tl.load(x + me))

    interpret(lambda x, out: each_fourth[(8,)](x, out), {"x": X[64:72]}, out, (), launches)
    assert np.array_equal(out[:4], X[68:72]) and not launches.left


def test_what_is_computed_wrongly_together_is_not_believed(passes, monkeypatch):
    right = ran("softmax", monkeypatch, alone=True)
    splat = LanesBuilder.create_splat

    def wrong(self, kind, x):
        found = splat(self, kind, x)
        if hasattr(found, "values") and found.values.dtype == np.float32:
            found.values += 1
        return found

    monkeypatch.setattr(LanesBuilder, "create_splat", wrong)
    passes.clear()
    assert bits(ran("softmax", monkeypatch, alone=False)) == bits(right)
    assert passes.count(1) == PROGRAMS


def test_wide_programs_are_few_at_once(passes, monkeypatch):
    monkeypatch.setattr(together, "MOST_ELEMENTS", 4 * N)
    ran("elements", monkeypatch, alone=False)
    assert passes == [1, 4, 4, 4, 4, 4, 1]


def test_a_grid_of_three_axes(passes, monkeypatch):
    @triton.jit
    def places(x, out):
        a, b, c = tl.program_id(0), tl.program_id(1), tl.program_id(2)
        number = (a * tl.num_programs(1) + b) * tl.num_programs(2) + c
        tl.store(out + number, a * 100.0 + b * 10 + c + tl.load(x) * 0)

    out = np.zeros(24, np.float32)
    interpret(lambda x, out: places[(2, 3, 4)](x, out), {"x": np.ones(1, np.float32)}, out)
    assert passes == [1, 16, 8]
    assert out.tolist() == [a * 100 + b * 10 + c for a in range(2) for b in range(3) for c in range(4)]


@triton.jit
def _spoken(x):
    print("seen")
    return x


def test_a_kernel_that_prints_does_so_in_each_program(capfd):
    @triton.jit
    def printing(x, out):
        tl.store(out + tl.program_id(0), _spoken(tl.load(x + tl.program_id(0))))

    interpret(lambda x, out: printing[(8,)](x, out), {"x": X[:8]}, np.zeros(8, np.float32))
    assert "".join(capfd.readouterr()).count("seen") == 8
