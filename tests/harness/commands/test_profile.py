"""`triptych profile` as a user types it: the figures of a kernel that is known by hand, side by side, JSON, errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from triptych import simulator
from triptych.harness.collection import builtin
from triptych.harness.commands import cli, new
from triptych.harness.exit_codes import ExitCode
from triptych.harness.results import document
from triptych.harness.results.profile import Profile

COPY = """import nki, nki.isa as nisa, nki.language as nl
@nki.jit
def copy(x, times=1):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    t = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    u = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=t, src=x)
    for _ in range(times):
        nisa.tensor_copy(dst=u, src=t)
    nisa.dma_copy(dst=out, src=u)
    return out
"""
BROKEN = COPY.replace("dst=u, src=t", "dst=u[:, 1:], src=t")
TWO = COPY + COPY.replace("def copy", "def other").split("\n", 1)[1]
ROWS = """import nki, nki.isa as nisa, nki.language as nl
@nki.jit
def rows(x, chosen):
    out = nl.ndarray((16, x.shape[1]), dtype=x.dtype, buffer=nl.shared_hbm)
    index = nl.ndarray((16, 1), dtype=nl.int32, buffer=nl.sbuf)
    nisa.dma_copy(dst=index, src=chosen)
    nisa.dma_copy(dst=out, src=x.vector_select(0, index))
    return out
"""
TILE = "--kernel copy.py --arg 128x512:float32"


def fixed(target: str = "trn2") -> float:
    """Nanoseconds of launch and teardown."""
    chip = simulator.TARGETS[target]
    return chip.launch_ns.value + chip.teardown_ns.value


def by_hand(target: str = "trn2", times: int = 1) -> tuple[float, float]:
    """Microseconds of the copy, and of one tensor_copy in it: 128 rows of 2 KiB over all rings, there and back."""
    chip = simulator.TARGETS[target]
    rings = chip.dma_rings.value
    moved = 128 / rings * (chip.dma_descriptor_ns.value + 2048 / (chip.dma_gb_per_s.value / rings))
    transfer = chip.dma_start_ns.value + moved + chip.dma_skew_ns.value + chip.dma_end_ns.value
    copied = (512 / 2 + chip.access_cycles.value) / chip.vector_ghz.value  # float32 in SBUF
    rest = fixed(target) + chip.gpsimd_launch_ns.value + chip.vector_latency_ns.value
    return (2 * transfer + times * copied + rest) / 1e3, copied / 1e3


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """profile("words") in a folder with the kernels above: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "copy": COPY,
        "broken": BROKEN,
        "two": TWO,
        "rows": ROWS,
        "empty": "x = 1\n",
        "wrong": "x = (\n",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)

    def call(words: str) -> tuple[int, str, str]:
        code = cli.main(["profile", *words.split()])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def figures(out: str) -> dict[str, str]:
    """The first number of each line by its first word."""
    words = [line.split() for line in out.splitlines() if len(line.split()) > 1]
    return {word[0]: word[1] for word in reversed(words)}


def test_one_prediction_from_the_top_down(profile) -> None:
    code, out, err = profile(TILE)
    total, copied = by_hand()
    assert (code, err) == (ExitCode.OK, "")
    lines = out.splitlines()
    assert lines[0] == "copy 128x512:float32 on trn2 (NeuronCore-v3): predicted, not measured"
    seen = figures(out)
    assert seen["time"] == f"{total:.1f}" and seen["MFU"] == "0.0"
    assert seen["HBM"] == f"{100 * 2 * 128 * 2048 / (total * 716e3):.1f}"
    assert seen["vector"] == f"{100 * copied / total:.1f}"
    assert "4 KiB of 224 KiB a partition at the peak; 4 KiB suffice in program order" in out  # two tiles of 2 KiB
    path = lines[lines.index("critical path       us   times  engine  instruction and line") + 1 :]
    assert {line.split()[-1] for line in path[:2]} == {"copy.py:7", "copy.py:10"}  # both as long
    assert [line.split()[-1] for line in path[2:4]] == ["copy.py:9", "teardown"]
    assert sum(float(line.split()[0]) for line in path[:4]) == pytest.approx(100, abs=0.3)
    assert "waits for the result of tensor_copy copy.py:9" in out
    assert max(map(len, lines)) <= 100 and "PSUM" not in out and "no matmuls" in out


def test_arguments_by_name_and_as_literals(profile) -> None:
    code, out, _ = profile(f"--kernel copy.py:copy --arg x=128x512:float32 --arg times={9}")
    assert code == ExitCode.OK and figures(out)["time"] == f"{by_hand(times=9)[0]:.1f}"


def test_arrays_are_drawn_only_where_a_kernel_depends_on_them(profile, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "--kernel rows.py --arg 64x32:float32 --arg 16x1:int32"
    code, out, err = profile(words)
    assert code == ExitCode.OK and out.startswith("rows 64x32:float32 16x1:int32 on trn2")
    assert err.startswith("triptych: nisa.dma_copy at rows.py:7: needs the values of ")
    assert err.endswith(": predicted with inputs drawn from seed 0\n") and err.count("\n") == 1
    code, out, err = profile(f"{words} --no-data")
    assert code == ExitCode.MISMATCH and "error: rows " in out and "this run has shapes alone" in out

    def none(*_: object, **__: object) -> None:
        raise AssertionError("drew inputs")

    monkeypatch.setattr("triptych.harness.profiling.subjects.Problem.of", none)
    assert profile("matmul -a M=2048 -a K=2048 -a N=2048")[0] == ExitCode.OK
    assert profile("attention_online -k *8b/decode*")[0] == ExitCode.OK


def test_an_op_without_declared_shapes_is_drawn_to_see_them(profile, tmp_path: Path) -> None:
    source = new.source("rowscale").replace(
        'inputs={"x": ("R", "C")}', 'inputs=lambda case, rng: {"x": rng.random((case.axes["R"], case.axes["C"]))}'
    )
    (tmp_path / "rowscale.py").write_text(new.source("rowscale"))
    (tmp_path / "drawn.py").write_text(source)
    assert "lambda case, rng" in source
    times = [figures(profile(f"--kernel {file}.py")[1])["time"] for file in ("rowscale", "drawn")]
    assert times[0] == times[1]
    (tmp_path / "drawn.py").write_text(source.replace('case.axes["R"]', 'case.axes["rows"]'))
    code, out, _ = profile("--kernel drawn.py")
    assert code == ExitCode.MISMATCH and "the inputs could not be made: KeyError: 'rows'" in out


def test_targets_and_a_what_if_side_by_side(profile) -> None:
    code, out, _ = profile(f"{TILE} --target trn2,trn3 --set launch_ns=0 --set teardown_ns=0")
    assert code == ExitCode.OK
    head, time, against, changed, *_ = out.splitlines()[3:]
    assert out.splitlines()[1] == "what-if: launch_ns = 0, teardown_ns = 0"
    assert head.split() == ["trn2", "trn2", "what-if", "trn3", "trn3", "what-if"]
    two, three, once = by_hand()[0], by_hand("trn3")[0], fixed() / 1e3
    assert fixed("trn3") == fixed()
    assert time.split()[2:] == [f"{us:.1f}" for us in (two, two - once, three, three - once)]
    assert against.split()[2:4] == [f"{100 * (three / two - 1):+.1f}", "%"]
    assert changed.split()[3::2] == [f"{-100 * once / us:+.1f}" for us in (two, three)]
    assert [line for line in out.splitlines() if line.startswith("── ")] == [
        "── trn2", "── trn2 what-if", "── trn3", "── trn3 what-if"
    ]  # fmt: skip


def test_both_orders(profile) -> None:
    code, out, _ = profile(f"{TILE} --order both")
    assert code == ExitCode.OK and out.splitlines()[2].split() == ["trn2", "overlapped", "trn2", "program"]
    assert out.splitlines()[3].split()[2:] == [f"{by_hand()[0]:.1f}"] * 2  # nothing to overlap
    assert " in program order: predicted" in profile(f"{TILE} --order program")[1]


def test_json_is_one_document(profile) -> None:
    code, out, err = profile(f"{TILE} --set dma_gb_per_s=800 --json -")
    plain, changed = json.loads(out)["results"]
    total, copied = by_hand()
    assert (code, err) == (ExitCode.OK, "")
    assert {key: plain[key] for key in ("op", "dtype", "backend", "target", "evidence", "status")} == {
        "op": "copy", "dtype": "float32", "backend": "nki-sim", "target": "trn2", "evidence": "predicted",
        "status": "passed",
    }  # fmt: skip
    timing = plain["timing"]
    assert timing["evidence"] == "predicted" and timing["predicted_us"] == pytest.approx(total)
    assert timing["mfu"] == 0 and timing["busy_share"]["vector"] == pytest.approx(copied / total)
    assert timing["settings"] == {} and changed["timing"]["settings"] == {"dma_gb_per_s": 800}
    assert changed["timing"]["predicted_us"] < total
    assert [(step["us"], step["line"]) for step in timing["critical"]][2] == (
        pytest.approx(copied + simulator.TARGETS["trn2"].vector_latency_ns.value / 1e3),
        "copy.py:9",
    )
    assert timing["memory"]["sbuf"] == {"peak_bytes": 4096, "needed_bytes": 4096, "capacity_bytes": 229376}


def test_a_document_gives_back_profiles_and_not_verdicts(profile, tmp_path: Path) -> None:
    profile(f"{TILE} --target trn2,trn3 --set launch_ns=0 --json p.json")
    read = document.read("p.json").results
    assert all(isinstance(row, Profile) for row in read)
    assert [(row.label, row.against) for row in read] == [
        ("trn2", None), ("trn2 what-if", "trn2"), ("trn3", "trn2"), ("trn3 what-if", "trn3")
    ]  # fmt: skip
    assert read[1].backend_label == "nki-sim[trn2, launch_ns=0]" and read[0].predicted.chip == "NeuronCore-v3"
    body = json.loads((tmp_path / "p.json").read_text())
    assert [row.to_dict() for row in read] == body["results"]
    for row in body["results"]:  # as it was before a row said its kind
        del row["kind"], row["label"], row["against"], row["timing"]["kind"]
    (tmp_path / "p.json").write_text(json.dumps(body))
    assert [row.timing for row in document.read("p.json").results] == [row.timing for row in read]


def test_a_repro_predicts_the_same(profile) -> None:
    _, out, _ = profile(f"{TILE} --target trn3 --order program --json -")
    first = json.loads(out)["results"][0]
    program, command, *words = first["repro"].split()
    assert (program, command) == ("triptych", "profile")
    again = json.loads(profile(f"{' '.join(words)} --json -")[1])["results"]
    assert again == [first]


def test_ops_of_the_table_and_their_sizes(profile) -> None:
    code, out, _ = profile("matmul -a M=256 -a K=128 -a N=512")
    assert code == ExitCode.OK and out.startswith("matmul 256x128x512 bfloat16 on trn2")
    assert "kernels/nki/matmul.py:" in out or "matmul.py:" in out
    code, out, _ = profile("matmul matmul_tiled matmul_mk --cases smoke --dtype float32,bfloat16 -k 128x256*")
    rows = [line.split()[:3] for line in out.splitlines() if "128x256x512" in line]
    ops = ("matmul", "matmul_tiled", "matmul_mk")
    assert rows == [[op, "128x256x512", d] for op in ops for d in ("float32", "bfloat16")]
    assert "Choose one case, with -k" in out


def test_the_regime_of_the_inputs_makes_no_case(profile) -> None:
    _, out, _ = profile("matmul --cases adversarial --json -")
    names = [result["case"] for result in json.loads(out)["results"]]
    sizes = [name.split("-")[0] for name in names]
    everything = builtin()["matmul"].case_sets["adversarial"]
    assert len(sizes) == len(set(sizes)) < len(everything)
    assert set(sizes) == {"x".join(map(str, case.axes.values())) for case in everything}


def test_ops_of_a_users_file(profile, tmp_path: Path) -> None:
    (tmp_path / "rowscale.py").write_text(new.source("rowscale"))
    code, out, _ = profile("--kernel rowscale.py")
    assert code == ExitCode.OK and out.startswith("rowscale 512x2048 bfloat16 on trn2")


def test_a_kernel_that_fails_says_it_in_one_sentence(profile) -> None:
    code, out, _ = profile("--kernel broken.py --arg 128x512:float32")
    assert code == ExitCode.MISMATCH
    assert out.startswith("error: copy 128x512:float32 float32 on nki-sim[trn2]: nisa.tensor_copy at broken.py:9: ")
    assert "Traceback" not in out
    code, out, _ = profile("--kernel broken.py --arg 4096:float32 --json -")
    result = json.loads(out)["results"][0]
    assert (code, result["status"], result["timing"]) == (ExitCode.MISMATCH, "error", {})


def test_a_kernel_that_raises_says_where(profile, tmp_path: Path) -> None:
    (tmp_path / "raises.py").write_text(COPY.replace("for _ in range(times)", "for _ in range(1 // (times - 1))"))
    code, out, _ = profile("--kernel raises.py --arg 128x512:float32")
    assert code == ExitCode.MISMATCH and "the kernel raised ZeroDivisionError: " in out and "(raises.py:8)" in out


def test_without_an_nki_kernel_nothing_runs(profile, tmp_path: Path) -> None:
    (tmp_path / "op.py").write_text(
        "from triptych import Op\nop = Op('half', {'x': ('N',)}, lambda x: x / 2, [{'N': 4}])\n"
    )
    code, out, _ = profile("--kernel op.py")
    assert code == ExitCode.NOTHING_RAN and "unsupported: half on nki-sim[trn2]: op half has no nki panel" in out


@pytest.mark.parametrize(
    ("words", "names", "lists"),
    [
        ("mtmul", "did you mean 'matmul'", "attention"),
        ("matmul --target trn9", "unknown target 'trn9'", "trn1, inf2, gen2, trn2"),
        ("matmul -k nothing", "unknown case 'nothing'", "llama-3.2-1b/q_o_proj/s64"),
        ("matmul --set dma_bandwidth=1", "unknown field 'dma_bandwidth'", "dma_gb_per_s, "),
        ("matmul --set dma_gb_per_s=fast", "wants a number above zero, in GB/s", "'dma_gb_per_s=fast'"),
        ("matmul --set dma_gb_per_s=0", "above zero", "'dma_gb_per_s=0'"),
        ("matmul --set launch_ns=-1", "zero or above, in ns", "'launch_ns=-1'"),
        ("matmul --order backwards", "invalid choice: 'backwards'", "'overlapped', 'program', 'both'"),
        ("matmul --arg 4x4:float32", "--arg goes with --kernel", "PATH:FUNCTION"),
        (f"{TILE} -a M=4", "-a selects a case of an op", ""),
        (f"matmul {TILE}", "OP selects a case of an op", ""),
        ("--kernel copy.py --arg 4x4:float99", "unknown dtype 'float99'", "bfloat16, float32"),
        ("--kernel copy.py --arg 4x4", "a tensor, as 4096x128:bfloat16, or a Python literal", "'4x4'"),
        ("--kernel copy.py:nothing --arg 4x4:float32", "copy.py has no function nothing", "Its kernels: copy."),
        ("--kernel two.py --arg 4x4:float32", "two.py holds no single kernel", "Its kernels: copy, other."),
        ("--kernel empty.py --arg 4x4:float32", "holds no single kernel", "Its kernels: none."),
        ("--kernel wrong.py:f --arg 4x4:float32", "wrong.py could not be loaded: SyntaxError", ""),
        ("--kernel nowhere.py:f", "nowhere.py is not a file.", ""),
        ("--kernel copy.py", "declares no op", ""),
        ("matmul --trace t.json", "--trace and --html show one case, and 12 are selected", "choose with OP, -k"),
        (f"{TILE} --trace nowhere/t.json", "there is no folder nowhere", ""),
        (f"{TILE} --json - --html -", "stdout takes one document", "--json and --html"),
        ("matmul --strict", "unknown option '--strict'", "--target"),
    ],
)
def test_usage(profile, words: str, names: str, lists: str, tmp_path: Path) -> None:
    def files() -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__")

    before = files()
    code, out, err = profile(words)
    assert (code, out) == (ExitCode.USAGE, "") and names in err and lists in err
    assert err.count("\n") == 1 and "Traceback" not in err and files() == before


def test_a_report_of_profiles_compares_nothing(profile, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile(f"{TILE} --set dma_gb_per_s=800 --order program --json p.json")
    assert cli.main(["report", "--from", "p.json", "--html", "r.html"]) == ExitCode.OK
    assert "0 passed" in capsys.readouterr().out
    page = (tmp_path / "r.html").read_text()
    assert "Nothing was compared" in page and 'class="status passed"' not in page.split('id="legend"')[0]
    assert "nki-sim[trn2, program order]" in page and "nki-sim[trn2, dma_gb_per_s=800, program order]" in page
