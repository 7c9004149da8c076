"""What each formula gives, in engine cycles by hand, on either side of each of its conditions."""

import pytest

from triptych.simulator.analysis import costs
from triptych.simulator.chips import chip_of
from triptych.simulator.dtypes import TABLE
from triptych.simulator.trace import Allocation, Event, Region

GHZ = {
    "trn1": {"tensor": 2.8, "vector": 1.12, "scalar": 1.4, "gpsimd": 1.4},
    "trn2": {"tensor": 2.4, "vector": 0.96, "scalar": 1.2, "gpsimd": 1.2},
    "trn3": {"tensor": 2.4, "vector": 1.2, "scalar": 1.2, "gpsimd": 1.2},
}
SHORTEST, START = 64, 150  # cycles: of an instruction, and of one on GpSimd beyond its elements


def tile(n, dtype="bfloat16", buffer="sbuf", step=1, p=128):
    """A view [p, n] whose elements lie `step` apart."""
    allocation = Allocation(0, "t", buffer, (p, n * step), TABLE[dtype], ("k.py", 1))
    return Region(allocation, 0, (p, n), (n * step, step), TABLE[dtype])


def spent(formula, reads, writes, engine="vector", target="trn2", op="tensor_copy", **attributes):
    """Cycles of `engine` that a formula gives for an instruction."""
    event = Event(op, engine, tuple(reads), tuple(writes), ("k.py", 1), 0, None, attributes)
    return formula(event, chip_of(target)) * GHZ[target][engine]


B, F = tile(512), tile(512, "float32")  # two bytes an element, and four
IN_PSUM, F_IN_PSUM = tile(512, buffer="psum"), tile(512, "float32", "psum")
THREE, TURNED = (Region(B.allocation, 0, (128, 16, 32), (512, *steps), B.dtype) for steps in ((32, 1), (1, 16)))
APART, ONE = tile(512, step=2), tile(1, "float32")


@pytest.mark.parametrize(
    ("reads", "writes", "how", "cycles"),
    [
        ([B], [B], {}, 128),
        ([B, ONE], [B], {"op": "tensor_scalar"}, 128),  # a number a partition does not count
        ([B, ONE], [B], {"op": "select_reduce"}, 512),
        ([IN_PSUM], [B], {}, 256),
        ([APART], [B], {}, 256),
        ([B], [APART], {}, 256),
        ([THREE], [THREE], {}, 128),
        ([TURNED], [B], {}, 256),
        ([tile(512, buffer="psum", step=2)], [B], {}, 512),
        ([F], [F], {}, 256),  # float32, dense in SBUF
        ([F, ONE], [F], {"op": "tensor_scalar"}, 256),
        ([F, tile(1, "float32", "psum")], [F], {"op": "tensor_scalar"}, 256),
        ([F], [F], {"target": "trn3"}, 256),
        ([F], [F], {"target": "trn1"}, 512),
        ([F], [F], {"op": "select_reduce"}, 512),
        ([F], [F], {"engine": "scalar"}, 512),
        ([F], [F], {"engine": "scalar", "target": "trn3"}, 512),
        ([F], [F], {"engine": "gpsimd"}, 512 + START),
        ([F_IN_PSUM], [F], {}, 512),
        ([F], [F_IN_PSUM], {}, 512),
        ([tile(512, "float32", step=2)], [F], {}, 512),
        ([F], [tile(512, "float32", step=2)], {}, 512),
        ([tile(512, "int32")], [F], {}, 512),
        ([F], [tile(512, "int32")], {}, 512),
        ([tile(140, "float32")], [tile(140, "float32")], {}, 70),
        ([F], [B], {}, 256),  # to two bytes too, and not from them
        ([F], [tile(512, "float16")], {}, 256),
        ([F], [B, tile(512, "int32")], {}, 512),
        ([F, tile(512, "int32")], [F], {}, 512),
        ([F], [F, F_IN_PSUM], {}, 512),
        ([F], [F, tile(512, "float32", step=2)], {}, 512),
        ([B], [B, IN_PSUM], {}, 256),
        ([B], [B, APART], {}, 256),
        ([F, ONE], [B], {"op": "tensor_scalar"}, 256),
        ([F], [B], {"target": "trn3"}, 256),
        ([F], [APART], {}, 512),
        ([F], [IN_PSUM], {}, 512),
        ([F_IN_PSUM], [B], {}, 512),
        ([F], [tile(512, "float8_e4m3")], {}, 512),
        ([F], [B], {"target": "trn1"}, 512),
        ([F], [B], {"engine": "scalar"}, 512),
        ([F], [B], {"engine": "gpsimd"}, 512 + START),
        ([B, F], [B], {}, 512),
        ([B], [B, F], {}, 512),
        ([B], [F], {}, 512),
        ([B], [tile(512, "float8_e4m3")], {}, 256),  # to float8, and not from it
        ([APART], [tile(512, "float8_e4m3")], {}, 512),
        ([tile(512, "float8_e4m3")], [B], {}, 512),
        ([B], [B], {"target": "trn1"}, 512),
        ([B], [B], {"engine": "scalar"}, 512),
        ([B], [B], {"engine": "scalar", "target": "trn3"}, 256),
        ([IN_PSUM], [B], {"engine": "scalar", "target": "trn3"}, 256),
        ([tile(512, buffer="psum", step=2)], [B], {"engine": "scalar", "target": "trn3"}, 512),
        ([B], [F], {"engine": "scalar", "target": "trn3"}, 512),
        ([B], [B], {"target": "trn3"}, 128),
        ([B], [B], {"engine": "gpsimd", "target": "trn3"}, 512 + START),
        ([B], [B], {"engine": "gpsimd"}, 512 + START),
        ([tile(128)], [tile(128)], {}, SHORTEST),
        ([tile(300)], [tile(300)], {}, 75),
        ([tile(40, "float32")], [tile(40, "float32")], {}, SHORTEST),
        ([tile(8)], [tile(8)], {"engine": "gpsimd"}, 8 + START),
    ],
)
def test_a_copy(reads, writes, how, cycles):
    assert spent(costs.per_element, reads, writes, **how) == pytest.approx(cycles)


@pytest.mark.parametrize(
    ("to", "value", "engine", "cycles"),
    [
        (B, 0, "vector", 256),
        (B, 1, "vector", 512),
        (F, 0, "vector", 512),
        (B, 0, "gpsimd", 512 + START),
    ],
)
def test_a_fill(to, value, engine, cycles):
    assert spent(costs.fill, [], [to], engine, value=value) == pytest.approx(cycles)


@pytest.mark.parametrize(
    ("reads", "writes", "target", "op", "cycles"),
    [
        ([F, F], [F], "trn2", "add", 512),
        ([F, F], [F], "trn1", "add", 1024),
        ([F_IN_PSUM, F], [F], "trn2", "add", 512),
        ([F_IN_PSUM, F_IN_PSUM], [F], "trn2", "add", 1024),
        ([IN_PSUM, IN_PSUM], [B], "trn2", "add", 1024),
        ([F, ONE], [F], "trn2", "add", 512),
        ([F, ONE], [F], "trn1", "add", 512),
        ([F_IN_PSUM, ONE], [F], "trn2", "add", 512),
        ([B, B], [B], "trn2", "maximum", 256),  # two bytes, dense and all in SBUF
        ([B, tile(512, "float16")], [tile(512, "float16")], "trn3", "add", 256),
        ([B, THREE], [B], "trn2", "add", 256),
        ([B, B], [APART], "trn2", "add", 512),
        ([B, TURNED], [B], "trn2", "add", 512),
        ([IN_PSUM, B], [B], "trn2", "add", 512),
        ([B, B], [IN_PSUM], "trn2", "add", 512),
        ([B, B], [tile(512, "float8_e4m3")], "trn2", "add", 512),
        ([tile(140), tile(140)], [tile(140)], "trn2", "add", 70),
        ([B, APART], [B], "trn2", "add", 512),
        ([B, B], [F], "trn2", "add", 512),
        ([B, F], [B], "trn2", "add", 512),
        ([B, B], [B], "trn1", "add", 512),
        ([B, B], [B], "trn1", "subtract", 512),
        ([B, B], [B], "trn1", ("subtract", "multiply"), 512),
        ([B, B], [B], "trn1", ("multiply", "subtract"), 1024),
        ([B, B], [B], "trn1", "maximum", 1024),
        ([B, APART], [B], "trn1", "add", 1024),
        ([B, THREE], [B], "trn1", "add", 512),
        ([B, TURNED], [B], "trn1", "add", 1024),
        ([tile(512, "float16")] * 2, [B], "trn1", "add", 1024),
        ([tile(8), tile(8)], [tile(8)], "trn2", "add", SHORTEST),
    ],
)
def test_two_inputs(reads, writes, target, op, cycles):
    event = Event("tensor_tensor", "vector", tuple(reads), tuple(writes), ("k.py", 1), 0, None, {"op": op})
    assert costs.two_inputs(event, chip_of(target)) * GHZ[target]["vector"] == pytest.approx(cycles)


def test_two_inputs_and_a_number_are_never_faster():
    """tensor_tensor alone has that mode."""
    assert spent(costs.two_inputs, [B, B], [B], op="scalar_tensor_tensor") == pytest.approx(512)
    assert spent(costs.two_inputs, [B, B], [B], op="tensor_tensor") == pytest.approx(256)


def test_two_inputs_on_gpsimd_never_stream_together_on_later_generations():
    for op in ("tensor_tensor", "scalar_tensor_tensor"):
        for target in ("trn2", "trn3"):
            assert spent(costs.two_inputs, [B, B], [B], "gpsimd", target, op) == pytest.approx(1024 + START)


@pytest.mark.parametrize(
    ("reads", "cycles"),
    [([F, F], 1024), ([F_IN_PSUM, F], 512), ([F_IN_PSUM, F_IN_PSUM], 1024), ([F, ONE], 512)],
)
def test_what_is_chosen_by_a_predicate(reads, cycles):
    assert spent(costs.predicated, reads, [F]) == pytest.approx(cycles)


@pytest.mark.parametrize(
    ("op", "read", "written", "cycles"),
    [
        ("add", B, tile(1), 256),
        ("maximum", B, tile(1), 256),
        ("minimum", B, tile(1), 512),
        ("add", B, tile(1, "float32"), 512),
        ("add", F, tile(1), 512),
        ("add", F, tile(1, "float32"), 512),
        ("add", tile(512, "float16"), tile(1, "float16"), 512),
    ],
)
def test_a_reduction(op, read, written, cycles):
    event = Event("tensor_reduce", "vector", (read,), (written,), ("k.py", 1), 0, None, {"op": op})
    assert costs.reduction(event, chip_of("trn2")) * 0.96 == pytest.approx(cycles)


@pytest.mark.parametrize(
    ("formula", "n", "engine", "cycles"),
    [
        (costs.streamed, 512, "vector", 512),
        (costs.streamed, 8, "scalar", SHORTEST),
        (costs.gpsimd, 8, "gpsimd", 8 + START),
        (costs.either, 512, "vector", 512),
        (costs.either, 512, "gpsimd", 512 + START),
        (costs.streamed_and_read_out, 512, "vector", 512 + 64),
        (costs.streamed_and_read_out, 8, "scalar", 64 + 64),
        (costs.quarter, 512, "vector", 128),
        (costs.quarter, 128, "vector", SHORTEST),
        (costs.scan, 512, "vector", 1024),
        (costs.scan, 40, "vector", 80),
        (costs.reciprocal, 512, "vector", 3072),
        (costs.aggregate, 30, "vector", 130),
        (costs.aggregate, 6, "vector", SHORTEST),
        (costs.gather, 512, "gpsimd", 512 + START),
        (costs.gather, 513, "gpsimd", 513 + 2 * START),
        (costs.gather, 1025, "gpsimd", 1025 + 3 * START),
        (costs.free, 512, "vector", 0),
    ],
)
def test_what_depends_on_its_elements_alone(formula, n, engine, cycles):
    assert spent(formula, [tile(n)], [tile(n)], engine) == pytest.approx(cycles)


@pytest.mark.parametrize(
    ("target", "n", "cycles"),
    [("trn1", 512, 8 * 512), ("trn1", 4, SHORTEST), ("trn2", 512, 6 * 512), ("trn2", 8, SHORTEST), ("trn3", 11, 66)],
)
def test_a_reciprocal(target, n, cycles):
    found = spent(costs.reciprocal, [tile(n, "float32")], [tile(n, "float32")], target=target)
    assert found == pytest.approx(cycles)


@pytest.mark.parametrize(("target", "ns"), [("trn2", 598), ("trn3", 598)])
@pytest.mark.parametrize("engine", ["tensor", "vector", "scalar", "gpsimd"])
def test_a_barrier(target, ns, engine):
    event = Event("core_barrier", engine, (tile(512, buffer="shared_hbm"),), (), ("k.py", 1), 0, None, {})
    assert costs.barrier(event, chip_of(target)) == ns


@pytest.mark.parametrize(
    ("each", "dtype", "cycles"),
    [(1, "bfloat16", 60 / 8), (4, "float32", 240 / 2.75), (4, "bfloat16", 240 / 1.375), (8, "uint8", 480 / 0.46875)],
)
def test_a_local_gather(each, dtype, cycles):
    found = spent(costs.local_gather, [tile(99, dtype)], [tile(60)], "gpsimd", each=each, indices=60)
    assert found == pytest.approx(cycles + START)


def test_the_largest_of_many():
    assert spent(costs.topk, [tile(100)], [tile(8)], n=100) == pytest.approx(4 * 100 + 8)


@pytest.mark.parametrize(
    ("writes", "cycles"),
    [([F], 512), ([F, ONE], 512 + 64), ([F, tile(1, buffer="psum")], 512 + 64), ([ONE], 512)],
)
def test_an_activation_and_its_accumulator(writes, cycles):
    assert spent(costs.activation, [F], writes, "scalar") == pytest.approx(cycles)


@pytest.mark.parametrize(
    ("m", "n", "dtype", "attributes", "cycles"),
    [
        (128, 512, "bfloat16", {"rows": 1}, 512 + 7),
        (128, 8, "bfloat16", {"rows": 1}, 64 + 7),
        (32, 8, "bfloat16", {"rows": 1}, 32 + 7),
        (8, 20, "bfloat16", {"rows": 1}, 20 + 7),
        (128, 512, "float32", {"rows": 1}, 4 * 512 + 14),
        (32, 8, "float32", {"rows": 1}, 4 * 32 + 14),
        (128, 512, "float32", {"rows": 1, "onezero": True}, 2 * 512 + 7),
        (128, 512, "float32", {"rows": 1, "onezero": False}, 4 * 512 + 14),
        (128, 512, "float32", {"rows": 1, "transpose": True}, 2 * 512 + 7),
        (128, 512, "bfloat16", {"rows": 1, "transpose": True}, 512 + 7),
        (64, 512, "float8_e4m3", {"rows": 2}, 256 + 7),
        (64, 16, "float8_e4m3", {"rows": 2}, 32 + 7),
    ],
)
def test_a_matmul(m, n, dtype, attributes, cycles):
    reads = [tile(m, dtype), tile(n, "bfloat16" if dtype == "float32" else dtype)]  # the stationary's dtype decides
    assert spent(costs.matmul, reads, [F_IN_PSUM], "tensor", **attributes) == pytest.approx(cycles)


@pytest.mark.parametrize(
    ("engine", "dtype", "p", "n", "cycles"),
    [
        ("tensor", "bfloat16", 32, 128, 64 + 7),
        ("tensor", "bfloat16", 128, 16, 128 + 7),
        ("tensor", "bfloat16", 16, 20, 20 + 7),
        ("tensor", "float32", 32, 128, 2 * 64 + 7),  # one pass, in which a column takes two cycles
        ("tensor", "float32", 128, 16, 2 * 128 + 7),
        ("tensor", "float32", 16, 20, 2 * 20 + 7),
        ("vector", "bfloat16", 32, 512, 512),
        ("vector", "float32", 32, 512, 512),
    ],
)
def test_a_transpose(engine, dtype, p, n, cycles):
    assert spent(costs.transpose, [tile(n, dtype, p=p)], [tile(p, dtype, p=n)], engine) == pytest.approx(cycles)


def test_a_formula_says_itself_how_it_is_known():
    assert costs.streamed.known == "historical" and costs.streamed.assumed().known == "assumed"
    assert costs.streamed.assumed().text == costs.streamed.text == "max(64, N) cycles, with no faster mode."
