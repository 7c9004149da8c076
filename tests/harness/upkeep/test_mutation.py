"""Mutants are small mistakes in valid Python, and each fate is told apart."""

import ast
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from triptych.harness.collection import builtin
from triptych.harness.ops.case import Case
from triptych.harness.upkeep.figures import honest_figures, judge_figures, mutant_runs, mutation, retiled

ROOT = Path(__file__).parents[3]
MATMUL = ROOT / "kernels" / "nki" / "matmul.py"

# The forked children use neither JAX nor threads; other tests of the same process may have loaded both.
pytestmark = pytest.mark.filterwarnings(
    "ignore:os.fork:RuntimeWarning", "ignore:This process .* is multi-threaded:DeprecationWarning"
)


@pytest.mark.slow
@pytest.mark.parametrize("path", judge_figures.FILES, ids=lambda path: "/".join(path.parts[-3:]))
def test_every_mutant_is_another_program(path):
    unchanged = ast.dump(ast.parse(path.read_text()))
    found = mutation.mutants(path)
    assert len({mutant.source for mutant in found}) == len(found) > 3
    for mutant in mutation.spread(found, 20):
        assert ast.dump(ast.parse(mutant.source)) != unchanged
        assert mutant.diff().startswith("- ") and "\n+ " in mutant.diff()


@pytest.mark.slow
def test_there_are_over_a_hundred_of_every_kind_of_mistake():
    found = [mutant for path in judge_figures.FILES for mutant in mutation.mutants(path)]
    kinds = {mutant.operator for mutant in found}
    assert len(found) > 1000 and kinds >= {
        "comparison",
        "one more",
        "mask dropped",
        "scale doubled",
        "scale dropped",
        "accumulate flag",
        "dtype lowered",
        "swapped",
        "axes exchanged",
        "last step dropped",
        "statement dropped",
        "condition inverted",
        "slice shifted",
    }


SOURCE = '''def kernel(x, scale):
    """A docstring of 3 words."""
    assert len(x) > 2, "left alone"
    if len(x) % 2:
        raise ValueError("left alone as well")
    for i in range(0, 10, 2):
        x[i : i + 2] += scale * max(i, 1)
    return tl.load(x, mask=a & b) if x < 1 else None
'''


def made(tmp_path):
    path = tmp_path / "kernel.py"
    path.write_text(SOURCE)
    return {mutant.diff().splitlines()[1][2:]: mutant for mutant in mutation.mutants(path)}


def test_operators(tmp_path):
    found = made(tmp_path)
    for line, operator in {
        "for i in range(0 + 1, 10, 2):": "loop starts later",
        "for i in range(0, 10 - (2), 2):": "last step dropped",
        "x[i : i + 2] += (2 * (scale * max(i, 1)))": "scale doubled",
        "x[i : i + 2] += (max(i, 1))": None,
        "x[i : i + 2] += (scale)": "right operand dropped",
        "x[i : i + 2] += scale * min(i, 1)": "swapped",
        "return tl.load(x, mask=None) if x < 1 else None": "mask dropped",
        "return tl.load(x, mask=(a)) if x < 1 else None": "mask dropped",
        "return tl.load(x, mask=a & b) if (x <= 1) else None": "comparison",
        "return (tl.load(x, mask=a & b))": "always the first",
        "pass": "statement dropped",
    }.items():
        if operator is not None:
            assert found[line].operator == operator, line
    assert {mutant.line for mutant in found.values()} == {6, 7, 8}, "neither docstring nor refusals"
    assert found["pass"].function == "kernel"


def test_a_sample_is_spread_over_the_file():
    found = mutation.mutants(MATMUL)
    some = list(mutation.spread(found, 10))
    assert len(some) == 10 and some[0] == found[0] and some[-1].line > found[len(found) * 8 // 10].line
    assert list(mutation.spread(found[:3], 10)) == found[:3]


CASES = [((5, 7, 3), "float32"), ((130, 200, 9), "bfloat16")]


@pytest.fixture(scope="module")
def prepared():
    op = builtin()["matmul_tiled"]
    pairs = [(op, Case(op.name, "a", dict(zip("MKN", shape, strict=True)), dtype)) for shape, dtype in CASES]
    return mutant_runs.prepare(pairs[:1], "nki-sim"), mutant_runs.prepare(pairs[1:], "nki-sim")


def changed(before, after):
    text = MATMUL.read_text()
    assert before in text
    return mutation.Mutant(MATMUL, 1, "matmul_tiled", "by hand", text.replace(before, after))


@pytest.mark.skipif(os.name != "posix", reason="mutants run in forked processes")
@pytest.mark.parametrize(
    ("before", "after", "kind", "status"),
    [
        ("k = min(TILE_K, K - k0)", "k = max(TILE_K, K - k0)", "caught", "error"),
        (
            "product = nl.ndarray((m, n), dtype=nl.float32",
            "raise SystemExit\n            product = (",
            "caught",
            "error",
        ),
        ("for m0 in range(0, M, TILE_M):\n", "while True:\n        m0 = 0\n", "caught", "timeout"),
        ("accumulate=k0 > 0", "accumulate=False", "missed", "failed"),
        ("accumulate=k0 > 0", "accumulate=k0 >= 1", "equivalent", ""),
    ],
)
def test_fates(prepared, monkeypatch, before, after, kind, status):
    if status == "timeout":
        monkeypatch.setattr(mutant_runs, "LIMIT_S", 4.0)
    judging, probing = prepared
    mutant = changed(before, after)
    (fate,) = mutant_runs.run([mutant], "nki-sim", judging, probing, processes=1)
    assert (fate.kind, fate.status) == (kind, status), fate.reason
    assert fate.mutant == mutant


@pytest.mark.parametrize("wrong", ["-1 * ", "0.5 * ", "np.roll(1, 1) + "])
def test_a_reference_that_is_wrong_is_an_error_of_its_own(prepared, wrong):
    """Else its distance to the baselines would become the tolerance, and every kernel would pass."""
    judging, probing = prepared
    path = ROOT / "reference" / "matmul.py"
    source = path.read_text().replace("    return out\n", f"    return {wrong}out\n")
    mutant = mutation.Mutant(path, 1, "matmul", "by hand", source)
    (fate,) = mutant_runs.run([mutant], "nki-sim", judging, probing, processes=1)
    assert (fate.kind, fate.status) == ("caught", "error")
    assert "and the reference of matmul_tiled disagree" in fate.reason


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("first + (end - 1) * P + m]", "first + (end - 1) * P + m - 1]", "caught"),
        ("(end - 1) * P", "(-1 + end) * P", "equivalent"),
    ],
)
def test_each_output_is_judged(before, after, kind):
    """The second one of attention with the logarithms of its sums."""
    path = ROOT / "kernels" / "nki" / "attention.py"
    op, axes = builtin()["attention_lse"], {"B": 1, "H": 1, "Hkv": 1, "Sq": 20, "Sk": 20, "D": 8}
    case = Case(op.name, "a", axes, "float32", params={"causal": True, "with_lse": True})
    judging = mutant_runs.prepare([(op, case)], "nki-sim")
    assert len(judging) == 1 and list(judging[0].out) == ["out", "lse"]
    text = path.read_text()
    assert before in text
    mutant = mutation.Mutant(path, 1, "attention", "by hand", text.replace(before, after))
    (fate,) = mutant_runs.run([mutant], "nki-sim", judging, [], processes=1)
    assert fate.kind == kind, fate.reason


def test_an_op_of_which_nothing_can_be_judged_stops_the_figures():
    op = builtin()["matmul_tiled"]
    nothing = Case(op.name, "a", {"M": 5, "K": 7, "N": 3}, "float32")
    silent = replace(op, reference=lambda lhsT, rhs: np.zeros((5, 3)))
    with pytest.raises(RuntimeError, match="no case of matmul_tiled can be judged on nki-sim"):
        mutant_runs.prepare([(silent, nothing)], "nki-sim")


def test_an_unchanged_kernel_that_fails_stops_the_figures(monkeypatch):
    op = builtin()["matmul_tiled"]
    case = Case(op.name, "a", {"M": 5, "K": 7, "N": 3}, "float32")
    monkeypatch.setattr(
        type(mutant_runs.BACKENDS["nki-sim"]), "run", lambda self, problem, t: problem.inputs["rhs"][:5] * 0
    )
    with pytest.raises(RuntimeError, match="the unchanged matmul_tiled fails a float32 on nki-sim"):
        mutant_runs.prepare([(op, case)], "nki-sim")
    refused = []
    with pytest.raises(RuntimeError, match="no case of matmul_tiled can be judged"):
        mutant_runs.prepare([(op, case)], "nki-sim", refused)
    assert len(refused) == 1 and refused[0].startswith("the unchanged matmul_tiled fails a float32")


@pytest.mark.parametrize("file", [*judge_figures.FILES, *(retiled.ROOT / name for name in retiled.CHANGES)])
def test_a_file_is_judged_by_the_ops_that_it_serves(file):
    some = mutant_runs.of_file(file)
    assert "attention_hopper" not in some and ("attention_softcap" in some) == (file.stem == "attention")
    counts = Counter(op.name for op, _ in mutant_runs.cases_of(file, probing=False))
    assert counts.keys() == some.keys() and counts[file.stem] > 100, (
        "every case of the op that the file is called after"
    )
    assert all(4 <= count < 60 for name, count in counts.items() if name != file.stem), "and a few of the others"


@pytest.mark.parametrize("name", retiled.CHANGES)
def test_other_tiles_are_other_programs(name):
    path = ROOT / "src" / "triptych" / name
    variants = retiled.retiled(retiled.ROOT / name)
    assert len({variant.source for variant in variants} | {path.read_text()}) == len(variants) + 1 > 2
    for variant in variants:
        ast.parse(variant.source)


def test_other_tiles_of_what_is_no_longer_there_are_told(monkeypatch):
    monkeypatch.setitem(retiled.CHANGES, "kernels/nki/matmul.py", {"old": (("BLOCK_Q = 1", "BLOCK_Q = 2"),)})
    with pytest.raises(ValueError, match="has no 'BLOCK_Q = 1' any more, which the variant 'old' replaces"):
        retiled.retiled(retiled.ROOT / "kernels" / "nki" / "matmul.py")


def test_the_honest_table_counts_what_is_rejected():
    case = Case("matmul", "a", {"M": 1, "K": 1, "N": 1}, "float32")
    runs = [honest_figures.Run(case, "in pairs", 0.4, None), honest_figures.Run(case, "in pairs", 1.2, "12 off")]
    fates = [
        mutant_runs.Fate(variant, "equivalent") for variant in retiled.retiled(retiled.ROOT / "kernels/nki/matmul.py")
    ]
    lines = honest_figures.as_table(runs, [(retiled.ROOT / "kernels/nki/matmul.py", 7, fates)]).splitlines()
    assert lines[2] == "| NumPy, matmul | in pairs | 2 | 1 | 1.20 |"
    assert lines[3] == "| `kernels/nki/matmul.py` | K in blocks of 256 | 7 | 0 | the same bits |"
    assert lines[-1] == f"| all |  | {2 + 7 * len(fates)} | 1 |  |"


def test_the_table_counts_what_differs():
    mutant = changed("accumulate=k0 > 0", "accumulate=False")
    fates = [
        mutant_runs.Fate(mutant, "caught", "failed"),
        mutant_runs.Fate(mutant, "caught", "timeout"),
        mutant_runs.Fate(mutant, "missed", "failed", "matmul 1x1x1 float16", "off"),
        mutant_runs.Fate(mutant, "equivalent"),
    ]
    text = judge_figures.table({MATMUL: fates})
    assert "| kernels/nki/matmul.py | 4 | 2 | 1 | 0 | 1 | 1 | 0 | 1 | 2 of 3 (66.7 %) |" in text
    listed = judge_figures.listed(fates)
    assert listed.startswith(
        "missed: kernels/nki/matmul.py:1 (by hand); told only by matmul 1x1x1 float16: off\n- nisa"
    )
    assert "+ nisa.nc_matmul(dst=product, stationary=lhs_tile, moving=rhs_tile, accumulate=False)" in listed
