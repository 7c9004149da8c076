"""`triptych.check` and `triptych.bench`: what they take, what they return, and where kernels run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import triptych
from triptych.harness.commands import cli
from triptych.harness.errors import UsageError
from triptych.harness.results.status import Evidence, Status
from triptych.harness.testing import chosen_ops
from triptych.harness.testing.results import ChecksFailed

FILE = '''
import os
import re
import shlex
import nki
import nki.isa as nisa
import nki.language as nl
import triptych


def reference(x):
    """out[R, C] = 2 x[R, C]."""
    return 2 * x


@nki.jit
def kernel(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
    nisa.dma_copy(dst=out, src=tile)
    with open("processes.txt", "a") as processes:
        print(os.getpid(), file=processes)
    return out


def made():
    return triptych.Op(
        "double",
        {"x": ("R", "C")},
        reference,
        {"smoke": [{"R": 4, "C": 8}], "edge": [{"R": 128, "C": 1}], "model": [{"R": 128, "C": 64}]},
        dtypes=("float32",),
        nki=kernel,
    )


double = made()
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "double.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The file as a user imports it."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "double", raising=False)
    import double  # type: ignore[import-not-found]

    yield double
    del sys.modules["double"]


def processes(folder: Path) -> set[int]:
    """Which processes have run the kernel."""
    return set(map(int, (folder / "processes.txt").read_text().split()))


def test_an_op_of_the_repository_by_name() -> None:
    results = triptych.check("matmul", backends="numpy,nki-sim", dtypes="float32", names="64*")
    assert [(r.backend, r.case, r.status) for r in results] == [
        ("numpy", "64x128x96", Status.PASSED),
        ("nki-sim", "64x128x96", Status.PASSED),
    ]
    assert results.ok and results.raise_for_failures() is results and results.passed == list(results)
    assert str(results).splitlines()[0].startswith("op      case") and str(results).endswith(" · seed 0")
    assert repr(results) == "<Results: 2 passed, 0 failed, 0 error, 0 timeout, 0 unsupported, 0 skipped>"


@pytest.mark.parametrize("by", [str, Path, lambda path: [path]])
def test_the_ops_of_a_file_run_in_another_process(by: Any, folder: Path) -> None:
    results = triptych.check(by("double.py"), backends=["nki-sim"], cases=["smoke", "edge"])
    assert [(r.case, r.status) for r in results] == [("4x8", Status.PASSED), ("128x1", Status.PASSED)]
    assert os.getpid() not in processes(folder)
    assert "--kernel double.py" in results[0].repro


def test_an_op_that_was_imported_is_loaded_from_its_file(module: Any, folder: Path) -> None:
    results = triptych.check(module.double, backends="nki-sim", cases="smoke", axes={"R": [3, 5], "C": 7})
    assert [r.case for r in results] == ["3x7", "5x7"] and results.ok
    assert os.getpid() not in processes(folder) and f"--kernel {folder}/double.py" in results[0].repro


def test_an_op_of_no_file_runs_in_this_process_if_told(module: Any, folder: Path) -> None:
    op = module.made()
    with pytest.raises(UsageError, match=r"op double is in no file .* give isolated=False to run it in this process"):
        triptych.check(op)
    results = triptych.check(op, backends="nki-sim", isolated=False)
    assert results.ok and processes(folder) == {os.getpid()}
    assert results[0].repro == "", "no command line finds it"


def test_paths_of_kernels_are_relative_to_the_file_of_the_op(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    op = triptych.Op("double", {"x": ("R",)}, lambda x: 2 * x, [{"R": 4}], nki="double.py:kernel")
    monkeypatch.setattr(chosen_ops, "place_of", lambda op: (folder / "mine.py", "op"))
    monkeypatch.chdir("/")
    (choice,) = chosen_ops.choices(op, isolated=False)
    assert choice.ops["double"].nki == f"{folder}/double.py:kernel"


def test_several_at_once_keep_their_order(module: Any) -> None:
    results = triptych.check([module.double, "matmul"], backends="numpy", dtypes="float32", cases="edge", names="1*x1")
    assert list(dict.fromkeys(r.op for r in results)) == ["matmul", "double"]


def test_a_failure_is_an_assertion_where_it_is_asked_for(folder: Path) -> None:
    (folder / "double.py").write_text(FILE.replace("operand0=2.0", "operand0=2.01"))
    results = triptych.check("double.py", backends=["nki-sim", "nki"], cases="smoke")
    assert [r.status for r in results.failed] == [Status.FAILED] and not results.ok
    assert [r.status for r in results.skipped] == [Status.SKIPPED]
    with pytest.raises(ChecksFailed, match="^failed: double 4x8 float32 on nki-sim") as caught:
        results.raise_for_failures()
    assert isinstance(caught.value, AssertionError) and "triptych check double --kernel double.py" in str(caught.value)


@pytest.mark.parametrize(("backends", "ok"), [("numpy", True), ("numpy,nki", False), ("nki", False)])
def test_a_reference_alone_is_no_kernel_that_passed(backends: str, ok: bool, folder: Path) -> None:
    results = triptych.check("double.py", backends=backends)
    assert results.ok is ok
    if not ok:
        with pytest.raises(ChecksFailed, match="^no kernel ran: "):
            results.raise_for_failures()


def test_bench_times_what_is_right(folder: Path) -> None:
    (result,) = triptych.bench("double.py", backends="nki-sim")
    assert result.case == "128x64" and result.timing.evidence is Evidence.PREDICTED
    assert result.repro.startswith("triptych bench ")
    (folder / "double.py").write_text(FILE.replace("operand0=2.0", "operand0=2.01"))
    assert triptych.bench("double.py", backends="nki-sim")[0].timing is None
    assert triptych.bench("double.py", backends="nki-sim", no_check=True)[0].timing is not None


def test_the_document_is_that_of_the_command_line(folder: Path) -> None:
    results = triptych.check("double.py", backends="numpy", seed=3)
    body = json.loads(results.to_json())
    assert {"schema_version", "env", "results"} <= set(body)
    assert (
        body["env"]["command"] == "triptych.check('double.py', backends='numpy', seed=3)" and body["env"]["seed"] == 3
    )
    assert body["env"]["not_tried"][0].startswith("not tried of double: ")
    assert results.document().results == list(results)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ops": "mtmul"}, "unknown op 'mtmul'; did you mean 'matmul'"),
        ({"ops": "matmul", "backends": "numpi"}, "unknown backend 'numpi'; did you mean 'numpy'"),
        ({"ops": "matmul", "axes": {"Q": 4}}, "matmul has no axis 'Q'"),
        ({"ops": "matmul", "budget": 3, "atol": 1}, "the call gives a budget and rtol or atol"),
        ({"ops": "nowhere.py"}, "nowhere.py is not a file"),
    ],
)
def test_what_does_not_exist_is_an_error_that_lists_what_does(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        triptych.check(**given)
    assert said in str(caught.value)


def test_something_else_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="the name of an op, a .py file or a triptych.Op; got a function"):
        triptych.check([lambda x: x])  # type: ignore[list-item]


SCRIPT = """
import triptych
op = triptych.Op("two", {"x": ("R",)}, lambda x: 2 * x, [{"R": 4}], dtypes=("float32",))
if __name__ == "__main__":
    print(triptych.check(op, backends="numpy"))
"""
REPLACED = SCRIPT.replace("check(op,", "check(other,").replace(
    "    print", "    import dataclasses\n    other = dataclasses.replace(op, summary='another')\n    print"
)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (SCRIPT, ""),
        (
            SCRIPT.replace('__name__ == "__main__"', "True"),
            'called again while it loads mine.py: put what the file runs by itself under `if __name__ == "__main__":` '
            "(mine.py:5)",
        ),
        (REPLACED, "op two is not there when a worker process loads mine.py, as what stands under `if __name__ ..` is"),
    ],
)
def test_a_script_may_check_the_op_that_it_declares(script: str, said: str, tmp_path: Path) -> None:
    """Its worker loads the script, which without the guard would check again, and so on without end."""
    (tmp_path / "mine.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "mine.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ("4 passed" in done.stdout) is not bool(said), done.stderr
    assert said in done.stderr


def test_the_page_runs_and_the_two_ways_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[3] / "docs" / "python.md").read_text()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.main(["new", "rowscale"]) == 0
    found: dict[str, Any] = {"__name__": "__main__"}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, found)
    del sys.modules["rowscale"]
    said = json.loads((tmp_path / "results.json").read_text())["results"]
    check, bench = (shlex.split(line) for line in re.findall(r"^\$ triptych (.*)$", text, re.MULTILINE))
    capsys.readouterr()
    assert cli.main(check) == 0
    assert capsys.readouterr().out.strip() == str(found["results"])
    assert json.loads((tmp_path / "results.json").read_text())["results"] == said
    assert cli.main(bench) == 0
    assert capsys.readouterr().out.strip() == str(found["times"])


def test_a_notebook_shows_the_table_and_what_failed() -> None:
    pytest.importorskip("torch")
    for factor, status in ((2.0, "passed"), (3.0, "failed")):
        op = triptych.Op(
            "<b>",
            {"x": ("R", "C")},
            lambda x: 2 * x,
            [{"R": 4, "C": 6}],
            torch=lambda x, factor=factor: factor * x,
            dtypes=["float32"],
        )
        shown = triptych.check(op, backends="torch", isolated=False)._repr_html_()
        assert (
            shown.count("<table>") == 1 and f">{status}</td>" in shown and "&lt;b&gt;" in shown and "<b>" not in shown
        )
        assert re.search(rf"\b[1-9]\d* {status}", shown.partition("<pre>")[2])
