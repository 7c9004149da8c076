"""Tensor indirection: every instruction that is documented to take it gives what it gives on the chosen elements."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator import INSTRUCTIONS, NkiValidationError, OutOfBounds
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.trace import IndirectRegion

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

P, N, F = 64, 34, 48
COLUMN = (P, 1)


def offsets_tile(c, offsets, partitions, group, dtype="uint32"):
    """A tile with offset i at [i % group, i // group], the rest of which was never written."""
    tile = c.empty((partitions, -(-len(offsets) // group)), dtype)
    for i, offset in enumerate(offsets):
        spot = tile[i % group : i % group + 1, i // group : i // group + 1]
        spot.array[...] = offset
        spot.wrote()
    return tile


@settings(max_examples=30, deadline=None)
@given(
    data=st.data(),
    p=st.sampled_from([16, 32, 64, 128]),
    dtype=st.sampled_from(["float32", "bfloat16", "int8"]),
    start=st.sampled_from([0, 3]),
    index=st.sampled_from(["uint32", "int32", "uint16"]),
)
def test_a_gather_and_a_scatter_read_and_write_the_chosen_elements(core, same, data, p, dtype, start, index):
    f = data.draw(st.integers(1, 40), label="elements of a partition")
    chosen = data.draw(st.lists(st.integers(0, f - 1), min_size=1, max_size=60), label="gathered")
    there = data.draw(st.permutations(range(f)), label="scattered")[: len(chosen)]
    chosen = chosen[: len(there)]
    with core("trn3") as c:
        x = c.random(0, (p, f + start), dtype)
        source = c.tile(x, dtype)[:, start:]
        dst = c.tile(c.random(1, (p, f), dtype), dtype)
        before = dst.array.copy()
        gather = source.indirect(offsets_tile(c, chosen, p, 16, index), len(chosen))
        scatter = dst.indirect(offsets_tile(c, there, p, 16, index), len(there))
        assert gather.is_indirect() and gather.shape == (p, len(chosen))
        event = nisa.tensor_copy(dst=scatter, src=gather)
        before[:, there] = x[:, start:][:, chosen]
        assert same(dst, before)
        assert event.reads[0][:3] == (source.storage.allocation, start, (p, f)) and len(event.reads) == 3
        assert isinstance(event.writes[0], IndirectRegion) and event.writes[0].free_size == len(there)


# What is documented to take indirect views, and what of the same instructions is documented not to. Each call gets a
# tile of random values for every name in `tiles`, and writes to `dst`.
def row(call, reads, not_reads=(), writes="dst", dst=("float32", "sbuf", (P, N)), group=16, **tiles):
    return call, tuple(reads.split()), tuple(not_reads), writes, dst, group, tiles


FLAT = ("float32", (P, N))
HALF = ("bfloat16", (P, N))
MATMUL = ("bfloat16", "psum", (N, N))
X4, SCALE = ("float8_e4m3fn_x4", (P, N)), ("uint8", (P, N))
ROWS = {
    "tensor_copy": row(lambda **t: nisa.tensor_copy(**t), "src", src=FLAT),
    "tensor_tensor": row(
        lambda **t: nisa.tensor_tensor(op=nl.subtract, **t), "data1", ["data2"], data1=FLAT, data2=FLAT
    ),
    "tensor_scalar": row(
        lambda **t: nisa.tensor_scalar(op0=nl.multiply, op1=nl.add, **t),
        "data",
        ["operand0", "operand1"],
        data=FLAT,
        operand0=("float32", COLUMN),
        operand1=("float32", COLUMN),
    ),
    "tensor_copy_predicated": row(
        lambda **t: nisa.tensor_copy_predicated(**t), "predicate", ["src"], src=FLAT, predicate=("uint8", (P, N))
    ),
    "tensor_reduce": row(
        lambda **t: nisa.tensor_reduce(op=nl.add, axis=1, **t), "data", data=FLAT, dst=("float32", "sbuf", COLUMN)
    ),
    "tensor_scalar_reduce": row(
        lambda **t: nisa.tensor_scalar_reduce(op0=nl.add, reduce_op=nl.add, **t),
        "data",
        ["operand0", "reduce_res"],
        data=FLAT,
        operand0=("float32", COLUMN),
        reduce_res=("float32", COLUMN),
    ),
    "tensor_scalar_cumulative": row(
        lambda **t: nisa.tensor_scalar_cumulative(op0=nl.add, op1=nl.add, **t),
        "src",
        ["imm0"],
        src=FLAT,
        imm0=("float32", COLUMN),
    ),
    "exponential": row(
        lambda **t: nisa.exponential(reduce_cmd=nisa.reduce_cmd.reset_reduce, **t),
        "src",
        ["max_value", "reduce_res"],
        src=FLAT,
        max_value=("float32", COLUMN),
        reduce_res=("float32", COLUMN),
    ),
    "activation": row(
        lambda **t: nisa.activation(op=nl.exp, reduce_op=nl.add, reduce_cmd=nisa.reduce_cmd.reset_reduce, **t),
        "data",
        ["bias", "scale", "reduce_res"],
        data=FLAT,
        bias=("float32", COLUMN),
        scale=("float32", COLUMN),
        reduce_res=("float32", COLUMN),
    ),
    "activation_reduce": row(
        lambda **t: nisa.activation_reduce(op=nl.tanh, reduce_op=nl.add, **t),
        "data",
        ["bias", "scale", "reduce_res"],
        data=FLAT,
        bias=("float32", COLUMN),
        scale=("float32", COLUMN),
        reduce_res=("float32", COLUMN),
    ),
    "activate2": row(
        lambda **t: nisa.activate2(op=nl.prelu, op0=nl.multiply, op1=nl.add, **t),
        "data",
        ["imm0", "imm1", "relu_param"],
        data=FLAT,
        imm0=("float32", COLUMN),
        imm1=("float32", COLUMN),
        relu_param=("float32", COLUMN),
    ),
    "nc_matmul": row(
        lambda **t: nisa.nc_matmul(**t), "stationary moving", stationary=HALF, moving=HALF, dst=MATMUL, group=32
    ),
    "nc_matmul_mx": row(
        lambda **t: nisa.nc_matmul_mx(**t),
        "stationary+stationary_scale moving+moving_scale",
        stationary=X4,
        moving=X4,
        stationary_scale=SCALE,
        moving_scale=SCALE,
        dst=MATMUL,
        group=32,
    ),
}


def values(c, seed, kind, shape):
    x = np.random.default_rng(seed)
    if kind.endswith("x4"):
        return x.integers(0, 0x38383838, shape).astype(np.uint32) & np.uint32(0x38383838)
    if kind == "uint8":
        return x.integers(100, 140, shape).astype(np.uint8)
    return x.uniform(-2, 2, shape).astype(np.float32)


def run(c, name, indirect=(), no_tensor=None):
    """The arrays of dst and of every tile after the instruction, with the operands `indirect` given as views.

    no_tensor: an operand in whose place an array is given
    """
    call, _, _, writes, (kind, buffer, shape), group, tiles = ROWS[name]
    rng = np.random.default_rng(9)
    operands, shown = {}, {}
    shared = {}
    for seed, (what, (dtype, size)) in enumerate({**tiles, writes: (kind, shape)}.items()):
        x = values(c, seed, dtype, size)
        place = buffer if what == writes else "sbuf"
        if what not in indirect:
            operands[what] = shown[what] = c.empty(size, dtype, place)
            shown[what].array[...] = x.astype(shown[what].array.dtype)
            shown[what].wrote()
            continue
        n = size[1]
        pair = what.removesuffix("_scale")
        if pair not in shared:
            chosen = rng.permutation(F)[:n]
            shared[pair] = chosen, offsets_tile(c, chosen, size[0], group)
        chosen, index = shared[pair]
        base = c.empty((size[0], F), dtype, place)
        part = base.array[:, chosen]
        part[...] = x.astype(base.array.dtype)
        base.array[:, chosen] = part
        written = np.zeros(base.shape, bool)
        written[:, chosen] = True
        base.wrote_where(written)
        operands[what] = base.indirect(index, n)
        shown[what] = base, chosen
    if no_tensor:
        operands[no_tensor] = np.zeros(shape, np.float32)
    call(**operands)
    return {w: t.array if isinstance(t, NkiTensor) else t[0].array[:, t[1]] for w, t in shown.items()}


CASES = [(name, tuple(w.split("+"))) for name, r in ROWS.items() for w in (*r[1], r[3])]
CASES += [(name, tuple("+".join((*r[1], r[3])).split("+"))) for name, r in ROWS.items()]


@pytest.mark.parametrize(("name", "indirect"), CASES, ids=lambda v: v if isinstance(v, str) else "+".join(v))
def test_an_instruction_gives_what_it_gives_on_the_chosen_elements(core, name, indirect):
    with core("trn3") as c:
        plain, gathered = run(c, name), run(c, name, indirect)
    for what in plain:
        np.testing.assert_array_equal(gathered[what], plain[what], err_msg=what)


REFUSED = [(name, what) for name, r in ROWS.items() for what in r[2]]


@pytest.mark.parametrize(("name", "what"), REFUSED)
def test_other_operands_are_refused(core, name, what):
    with core("trn3") as c, pytest.raises(NkiValidationError, match=f"nisa.{name} at .* {what} cannot be an indirect"):
        run(c, name, (what,))


BESIDE = [(n, one, other) for n, r in ROWS.items() for one in (*r[1], r[3]) for other in (*r[6], r[3]) if one != other]


@pytest.mark.parametrize(("name", "indirect", "other"), BESIDE)
def test_an_array_beside_an_indirect_view_is_refused_in_words(core, name, indirect, other):
    with core("trn3") as c, pytest.raises(NkiValidationError, match=f"nisa.{name} at "):
        run(c, name, tuple(indirect.split("+")), no_tensor=other)


@pytest.mark.parametrize("name", sorted(set(INSTRUCTIONS) - set(ROWS)))
def test_other_instructions_take_none(core, name):
    assert INSTRUCTIONS[name].indirect is None
    with core("trn3") as c:
        view = c.tile(np.zeros((16, 8), np.float32)).indirect(c.tile(np.zeros((16, 1), np.uint32)), 2)
        parameters = inspect.signature(INSTRUCTIONS[name].effect).parameters
        arguments = {w: [view] if w == "srcs" else view for w, p in parameters.items() if p.default is p.empty}
        with pytest.raises(NkiValidationError, match=f"nisa.{name} at .* cannot be an indirect view"):
            INSTRUCTIONS[name].issue(**arguments)


def test_a_matmul_accumulates_where_it_scatters(core, same):
    with core("trn3") as c:
        x, y = c.random(0, (32, 32), "bfloat16"), c.random(1, (32, 4), "bfloat16")
        dst = c.empty((32, 8), "bfloat16", "psum")
        there = dst.indirect(offsets_tile(c, [7, 0, 3, 1], 32, 32), 4)
        left, right = c.tile(x, "bfloat16"), c.tile(y, "bfloat16")
        nisa.nc_matmul(there, left, right)
        once = dst[:, 3:4].array.astype(np.float32).copy()
        nisa.nc_matmul(there, left, right, accumulate=True)
        assert same(dst[:, 3:4], (2 * once).astype(dst.array.dtype))
        with pytest.raises(NkiValidationError, match="nothing has written"):
            nisa.tensor_copy(c.empty((32, 8)), dst)


def test_only_what_is_chosen_has_to_be_written(core, same):
    with core("trn3") as c:
        source = c.empty((16, 6))
        source[:, 2:4].array[...] = 1.0
        source[:, 2:4].wrote()
        dst = c.empty((16, 3))
        nisa.tensor_copy(dst, source.indirect(offsets_tile(c, [3, 2, 3], 16, 16), 3))
        assert same(dst, np.ones((16, 3)))
        with pytest.raises(
            NkiValidationError, match=r"16 of 32 elements .* 'source.indirect' .* allocated at conftest"
        ):
            nisa.tensor_copy(dst[:, 0:2], source.indirect(offsets_tile(c, [3, 5], 16, 16), 2))
        with pytest.raises(NkiValidationError, match="reads 1 of 16 elements that nothing has written"):
            nisa.tensor_copy(c.empty((16, 16)), source.indirect(offsets_tile(c, [2] * 15, 16, 16), 16))


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_bit_patterns_of_32_bits_are_no_addresses(core, same, dtype):
    """Nor is arithmetic between 32 bits and others."""
    with core("trn3") as c:
        x = c.random(0, (32, 8), dtype)
        view, dst, wide = (
            c.tile(x).indirect(offsets_tile(c, [3, 1], 32, 16), 2),
            c.empty((32, 2), dtype),
            c.empty((32, 2)),
        )
        nisa.tensor_scalar(dst, view, nl.bitwise_and, 255)
        assert same(dst, x[:, [3, 1]] & np.array(255, dtype))
        nisa.tensor_scalar(wide, view, nl.add, 1.0)
        assert same(wide, x[:, [3, 1]].astype(np.float32) + np.float32(1))


def test_at_addresses(core, same):
    def at(c, shape, partition, byte, dtype="float32", buffer=nl.sbuf):
        return c.machine.allocate(shape, dtype, buffer, address=(partition, byte))

    with core("trn3") as c:
        source, index = at(c, (32, 8), 32, 0), at(c, (32, 1), 32, 64, "uint32")
        nisa.iota(source, [[1, 8]], 0, 8)
        nisa.memset(index, 5)
        psum = at(c, (32, 8), 64, 0, buffer=nl.psum)
        nisa.tensor_copy(psum[:, 0:1], source.indirect(index, 1))
        assert same(psum[:, 0:1], np.arange(32)[:, None] * 8 + 5)
        nisa.tensor_copy(psum.indirect(index, 1), source[:, 3:4])
        assert same(psum[:, 5:6], np.arange(32)[:, None] * 8 + 3)
        elsewhere, here = at(c, (32, 1), 64, 64, "uint32"), c.empty((32, 1))
        nisa.memset(elsewhere, 5)
        with pytest.raises(NkiValidationError, match=r"src must start on the partition .* \[64\], .* on \[32\]"):
            nisa.tensor_copy(here, source.indirect(elsewhere, 1))
        with pytest.raises(NkiValidationError, match="dst's index must start on the partition"):
            nisa.tensor_copy(psum.indirect(elsewhere, 1), source[:, 0:1])
        for anywhere in (index, elsewhere):  # src in PSUM, not indirect: no rule
            nisa.tensor_copy(psum.indirect(anywhere, 1), psum[:, 0:1])
        gathered = psum.indirect(elsewhere, 1)
        with pytest.raises(NkiValidationError, match="dst's index must start on the partition"):
            nisa.tensor_copy(source.indirect(index, 1), gathered)


def _view(c, buffer="sbuf", shape=(32, 8), dtype="bfloat16", offsets=(1, 2), group=16, **more):
    tile = c.tile(np.ones(shape, np.float32), dtype, buffer)
    return tile.indirect(offsets_tile(c, offsets, more.get("partitions", shape[0]), group), more.get("n", len(offsets)))


def _copy(c, src=None, dst=None, **more):
    nisa.tensor_copy(dst if dst is not None else c.empty((32, 2)), src if src is not None else c.empty((32, 2)), **more)


def _matmul(c, stationary="bfloat16", moving="bfloat16", dst="bfloat16", views=("moving",), **more):
    tiles = {}
    for what, dtype in (("stationary", stationary), ("moving", moving), ("dst", dst)):
        place = "psum" if what == "dst" else "sbuf"
        if what in views:
            tiles[what] = _view(c, place, (32, 40), dtype, range(32), 32)
        else:
            tiles[what] = c.tile(np.ones((32, 32), np.float32), dtype, place)
    nisa.nc_matmul(**tiles, **more)


def _mx(c, second, **more):
    """moving is indirect; its scale by `second` of (nothing, another index, the same one)."""
    tiles = {w: c.tile(np.zeros((32, 8)), "float8_e4m3fn_x4") for w in ("stationary", "moving")}
    scales = {f"{w}_scale": c.tile(np.full((32, 8), 127), "uint8") for w in tiles}
    index, other = (offsets_tile(c, range(8), 32, 32) for _ in range(2))
    tiles["moving"] = tiles["moving"].indirect(index, 8)
    if second:
        scales["moving_scale"] = scales["moving_scale"].indirect({"other": other, "same": index[:, :]}[second], 8)
    nisa.nc_matmul_mx(dst=c.empty((8, 8), buffer="psum"), **tiles, **scales, **more)


def _permuted_row(c):
    _view(c).permute((0, 1))[0:16]


LIMITS = [
    (lambda c: _view(c, "private_hbm"), "tiles in SBUF or PSUM"),
    (lambda c: c.empty((32, 8))[:, ::2].indirect(c.empty((32, 1), "uint32"), 1), "gapless"),
    (lambda c: c.empty((32, 8)).indirect(c.empty((32, 1)), 1), "index must be integers in SBUF"),
    (lambda c: c.empty((32, 8)).indirect(c.empty((32, 1), "uint32", "psum"), 1), "index must be integers in SBUF"),
    (lambda c: c.empty((32, 8)).indirect(3, 1), "index must be integers in SBUF"),
    (lambda c: c.empty((32, 8)).indirect(c.empty((16, 1), "uint32"), 1), "must have the 32 partitions"),
    (lambda c: _view(c, n=33), "hold num_elem offsets"),
    (lambda c: _view(c, n=0), "hold num_elem offsets"),
    (lambda c: _copy(c, _view(c, n=None)), "32 offsets lie in 16 partitions of 2 elements"),
    (lambda c: _copy(c, _view(c, shape=(8, 8), offsets=range(7), n=8)), "nothing has written"),
    (lambda c: _copy(c, _view(c, offsets=(1, 8))), "src: offset 1 is 8, and a partition of 'around' has 8 elements"),
    (lambda c: _copy(c, dst=_view(c, offsets=(1, 1))), "dst's offsets name an element twice"),
    (lambda c: _copy(c, _view(c), engine=nisa.engine.gpsimd), "engines vector and scalar here, .* runs on gpsimd"),
    (
        lambda c: _copy(c, c.tile(np.ones((32, 2)), "float32"), _view(c, "psum"), engine=nisa.engine.scalar),
        "cannot be in PSUM",
    ),
    (lambda c: nisa.activation(_view(c, "psum"), nl.exp, c.tile(np.ones((32, 2)), "float32")), "cannot be in PSUM"),
    (lambda c: _copy(c, c.empty((64, 8))[16:48].indirect(c.empty((64, 1), "uint32")[16:48], 1)), "multiple of 32"),
    (lambda c: _copy(c, c.empty((64, 8))[32:64].indirect(c.empty((64, 1), "uint32")[0:32], 1)), "must start on the"),
    (
        lambda c: nisa.tensor_scalar(c.empty((32, 2), "int32"), _view(c, dtype="int32"), nl.add, 1.0),
        "arithmetic on 32-bit integers",
    ),
    (lambda c: _matmul(c, is_transpose=True), "moving cannot be an indirect view in a transpose"),
    (lambda c: _matmul(c, tile_position=(32, 0), tile_size=(32, 128)), r"tile_position must be \(0, 0\)"),
    (lambda c: _matmul(c, "float32", "float32", "float32"), "an indirect moving must be .* got .*float32"),
    (lambda c: _matmul(c, dst="float32", views=("dst",)), "an indirect dst must be"),
    (lambda c: _mx(c, None), "moving and moving_scale are indirect by the same index"),
    (lambda c: _mx(c, "other"), "moving and moving_scale are indirect by the same index"),
    (lambda c: _mx(c, "same", tile_position=(32, 0), tile_size=(32, 128)), r"tile_position must be \(0, 0\)"),
    (_permuted_row, "no part or other shape"),
    (lambda c: _view(c)[:, 0:1], "no part or other shape"),
    (lambda c: _view(c).view(nl.uint8), "no other dtype, pattern or index"),
    (lambda c: _view(c).ap([[8, 32], [1, 2]]), "no other dtype, pattern or index"),
    (lambda c: _view(c).indirect(c.empty((32, 1), "uint32"), 1), "no other dtype, pattern or index"),
    (lambda c: _view(c).select(1, nisa.register_alloc(0)), "no part or other shape"),
    (lambda c: c.empty((32, 8)).indirect(_view(c, dtype="uint32"), 1), "index must be integers in SBUF"),
]


@pytest.mark.parametrize(("call", "words"), LIMITS)
def test_limits(refused, call, words):
    refused(call, words, on=("trn3",))


def test_an_offset_outside_is_an_index_out_of_bounds(core):
    with core("trn3") as c, pytest.raises(OutOfBounds):
        _copy(c, _view(c, offsets=(1, 8)))


@pytest.mark.parametrize("target", ["trn1", "trn2"])
def test_it_needs_the_fourth_generation(core, target):
    with core(target) as c, pytest.raises(NkiValidationError, match="indirect needs NeuronCore-v4"):
        _view(c)


def test_the_same_scale_index_passes(core):
    with core("trn3") as c:
        _mx(c, "same", tile_position=(0, 0), tile_size=(128, 128))
        assert _view(c)[:, :].is_indirect() and _view(c)[...].shape == (32, 2)
