"""The op table: cases, inputs, counts of work, and files of a user's own."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.collection import builtin
from triptych.harness.collection.attentions import forward as attention_row
from triptych.harness.ops import loading
from triptych.harness.ops.case import Case
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.inputs import make_inputs
from triptych.harness.ops.op import Op
from triptych.harness.ops.regimes import HARD

OPS = builtin()


def test_the_table_needs_no_kernel_language():
    code = (
        "import sys; sys.path[:] = %r; from triptych.harness.collection import builtin; builtin(); "
        "print([m for m in ('triton', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code % sys.path], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_cases_are_well_formed(op):
    assert {"smoke", "edge", "adversarial", "model", "model-long"} <= set(op.case_sets)
    for name, written in op.case_sets.items():
        assert len({(case.name, case.dtype) for case in written}) == len(written), f"{name} has a case twice"
        cases = cases_of(op, [name], None, {}, 7)
        assert len({(case.name, case.dtype) for case in cases}) == len(cases) > 0
        assert all(set(case.axes) == set(op.axes) and case.seed == 7 and case.dtype in op.dtypes for case in cases)


def test_smoke_has_long_sums_batches_and_unequal_lengths():
    ops = builtin()
    assert max(case.axes["K"] for case in ops["matmul"].case_sets["smoke"]) > 4096
    assert max(case.axes["N"] for case in ops["rmsnorm"].case_sets["smoke"]) >= 3000
    (last,) = (case for case in ops["attention"].case_sets["smoke"] if case.axes["Sk"] > 1024)
    assert last.axes["B"] > 1 and last.axes["Sq"] < last.axes["Sk"] and last.params["causal"]


def test_smoke_runs_every_dtype_and_model_runs_that_of_the_model():
    op = OPS["matmul"]
    assert {case.dtype for case in cases_of(op, ["smoke"], None, {}, 0)} == set(op.dtypes)
    assert {case.dtype for case in cases_of(op, ["model"], None, {}, 0)} == {"bfloat16"}
    assert {case.dtype for case in cases_of(op, ["model"], ["float16"], {}, 0)} == {"float16"}


def test_model_cases_have_the_dimensions_of_llama():
    found = {case.name: case.axes for op in ("matmul", "attention") for case in OPS[op].case_sets["model-long"]}
    assert found["llama-3.1-70b/down_proj/s2048"] == {"M": 2048, "K": 28672, "N": 8192}
    assert found["llama-3.1-8b/k_v_proj/s2048"] == {"M": 2048, "K": 4096, "N": 1024}
    assert found["llama-3.2-1b/gate_up_proj/s2048"] == {"M": 2048, "K": 2048, "N": 8192}
    prefill = {"B": 1, "H": 64, "Hkv": 8, "Sq": 2048, "Sk": 2048, "D": 128}
    assert found["llama-3.1-70b/prefill/s2048"] == prefill


def test_overrides_are_products_and_rename():
    op = OPS["matmul"]
    cases = cases_of(op, ["smoke"], ["float32"], {"M": [8, 16], "K": [4], "N": [3]}, 0)
    assert [case.name for case in cases] == ["8x4x3", "16x4x3"]
    named = cases_of(op, ["model"], None, {"M": [2]}, 0)
    assert named[0].name == "llama-3.2-1b/q_o_proj/s64@M=2" and named[0].axes["M"] == 2


@pytest.mark.parametrize(
    ("sets", "dtypes", "overrides", "said"),
    [
        (["smok"], None, {}, "op matmul has no case set 'smok'; it has smoke, edge"),
        (["smoke"], ["int8"], {}, "op matmul has no dtype 'int8'; it has float32"),
        (["smoke"], None, {"Q": [1]}, "op matmul has no axis 'Q'; it has M, K, N"),
    ],
)
def test_what_does_not_exist_is_an_error_that_lists_what_does(sets, dtypes, overrides, said):
    with pytest.raises(ValueError, match=said):
        cases_of(OPS["matmul"], sets, dtypes, overrides, 0)


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_inputs_depend_on_case_seed_and_draw_alone(op):
    if not {"float32", "bfloat16"} <= set(op.dtypes):
        pytest.skip(f"{op.name} has no inputs of both dtypes")
    case, other = (cases_of(op, ["smoke"], ["bfloat16"], {}, seed)[0] for seed in (0, 1))
    name = next(iter(make_inputs(op, case)))
    first, again = make_inputs(op, case)[name], make_inputs(op, case)[name]
    assert first.dtype == ml_dtypes.bfloat16 and first.tobytes() == again.tobytes()
    assert first.tobytes() != make_inputs(op, other)[name].tobytes()
    assert first.tobytes() != make_inputs(op, case, draw=1)[name].tobytes()
    wide = make_inputs(op, cases_of(op, ["smoke"], ["float32"], {}, 0)[0])[name]
    assert (wide.astype(ml_dtypes.bfloat16) == first).all()


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_adversarial_cases_reach_what_they_are_for(op, dtype):
    """Finite inputs give finite results in every dtype, not all zero; nonfinite ones leave enough to compare."""
    if dtype not in op.dtypes:
        pytest.skip(f"{op.name} has no {dtype}")
    for case in cases_of(op, ["adversarial"], [dtype], {}, 0):
        if op.unsupported and op.unsupported(case, "nki-sim", "trn3"):
            continue
        inputs = make_inputs(op, case)
        found = op.reference(**inputs, **case.params)
        outputs = [np.asarray(x).astype(np.float32) for x in (found if isinstance(found, tuple) else (found,))]
        finite = [np.isfinite(out) for out in outputs]
        if case.regime == "nonfinite":
            assert not all(part.all() for part in finite) and all(part.any() for part in finite), case.name
        else:
            assert all(part.all() for part in finite), case.name
            assert all(out.any() for out in outputs), f"{case.name} says nothing: it is zero everywhere"
            given = [x for name, x in inputs.items() if name != "mask"]  # which hides keys by minus infinity
            assert all(np.isfinite(x.astype(np.float32)).all() for x in given), case.name
            assert dtype != "float16" or all(np.abs(out).max() < 65504 for out in outputs), case.name


def test_matmul_counts_work():
    op, axes = OPS["matmul"], {"M": 2, "K": 3, "N": 5}
    assert op.flops(axes, {}) == 2 * 2 * 3 * 5
    assert op.bytes(axes, {}, 2) == 2 * (3 * 2 + 3 * 5 + 2 * 5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("sq", "sk"), [(1, 1), (4, 4), (2, 5), (5, 2), (1, 7)])
def test_attention_counts_visible_pairs(sq, sk, causal):
    axes = {"B": 2, "H": 6, "Hkv": 3, "Sq": sq, "Sk": sk, "D": 8}
    seen = sum(1 for i in range(sq) for j in range(sk) if not causal or j <= i + sk - sq)
    assert attention_row.visible_pairs(axes, {"causal": causal}) == seen
    assert OPS["attention"].flops(axes, {"causal": causal}) == 2 * 2 * 2 * 6 * 8 * seen
    assert OPS["attention"].bytes(axes, {"causal": causal}, 2) == 2 * (2 * 2 * 6 * sq * 8 + 2 * 2 * 3 * sk * 8)


MINIMAL = """
from triptych import Op

def reference(x, y, scale):
    \"\"\"out[M, N] = scale * (x + y).\"\"\"
    return scale * (x + y)

def kernel(x, y, scale):
    pass

def launcher(x, y, out, scale):
    pass

axpy = Op("axpy", {"x": ("M", "N"), "y": ("M", "N")}, reference,
          [{"M": 4, "N": 6, "scale": 0.5}, {"M": 1, "N": 7, "scale": 2.0, "name": "thin", "dtype": "float16"}],
          nki=kernel, triton="other/file.py:launch")
"""


def test_a_minimal_declaration_is_completed(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINIMAL)
    with pytest.raises(loading.OpFileError, match=r"names the kernel 'other/file.py:launch', and there is no file"):
        loading.from_file(path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file.py").touch()
    (op,) = loading.from_file(path).values()
    assert op.summary == "out[M, N] = scale * (x + y)." and op.axes == ("M", "N")
    assert op.nki == f"{path}:kernel" and op.triton == f"{tmp_path / 'other' / 'file.py'}:launch"
    cases = cases_of(op, ["smoke"], None, {}, 0)
    assert [(case.name, case.dtype) for case in cases] == [
        ("4x6-scale=0.5", "float32"),
        ("4x6-scale=0.5", "bfloat16"),
        ("4x6-scale=0.5", "float16"),
        ("thin", "float16"),
    ]
    inputs = make_inputs(op, cases[1])
    assert {name: (x.shape, x.dtype.name) for name, x in inputs.items()} == {
        "x": ((4, 6), "bfloat16"),
        "y": ((4, 6), "bfloat16"),
    }
    assert op.honest == () and op.flops is None


def test_inputs_in_float64_are_rounded_to_the_dtype_and_others_kept():
    def inputs(case, rng):
        return {"x": rng.standard_normal(case.axes["M"]), "index": np.arange(3), "scale": np.ones(2, np.float32)}

    op = Op("op", inputs, lambda **x: x["x"], [{"M": 5}])
    (case,) = cases_of(op, ["smoke"], ["bfloat16"], {}, 0)
    dtypes = {name: x.dtype.name for name, x in make_inputs(op, case).items()}
    assert dtypes == {"x": "bfloat16", "index": "int64", "scale": "float32"}


def test_a_case_without_a_size_that_inputs_need_is_a_sentence():
    op = Op("op", {"x": ("M", "N")}, lambda x: x, [{"M": 5}])
    (case,) = cases_of(op, ["smoke"], ["float32"], {}, 0)
    with pytest.raises(ValueError, match="input x has axis 'N', which case 5 does not give a whole number"):
        make_inputs(op, case)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "declares no op: it needs a module-level `triptych.Op`"),
        ("def broken(", "could not be loaded: SyntaxError"),
        ("import nothing_of_that_name", r"could not be loaded: ModuleNotFoundError: .* \(mine.py:1\)"),
        ("raise SystemExit(3)", "could not be loaded: SystemExit: 3"),
        (
            "from triptych import Op\na = Op('a', {}, abs, [])\nb = Op('a', {}, abs, [{}])",
            "declares two ops called 'a'",
        ),
        (
            "from triptych import Op\na = Op('a', {}, abs, [], nki=print)",
            "kernel print of an op is under no name",
        ),
        ("from triptych import Op\na = Op('a')", "could not be loaded: TypeError: .*missing"),
    ],
)
def test_a_file_that_declares_no_op_says_why(tmp_path, text, said):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(loading.OpFileError, match=said):
        loading.from_file(path)


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(loading.OpFileError, match="nowhere.py is not a file"):
        loading.from_file(tmp_path / "nowhere.py")


def test_sizes_of_the_edge_come_in_ascending_order_too():
    """A maximum that forgets the last column is right in most cases with normal numbers."""
    sets = {"smoke": [{"M": 8}], "edge": [{"M": 7, "name": "odd"}], "model": [{"M": 4096}]}
    op = Op("a", {"x": ("M",)}, lambda x: x, sets)
    assert [case.name for case in op.case_sets["adversarial"]] == [
        *(f"8-{regime}" for regime in HARD if regime != "strided"),
        "odd-sorted",
    ]


def test_templates_of_a_case_keep_its_fields():
    op = Op("op", {}, abs, {"edge": [Case("", "named", {"M": 2}, "", {"causal": True}, "tiny")]})
    assert op.case_sets["edge"][0] == Case("op", "named", {"M": 2}, "", {"causal": True}, "tiny")
