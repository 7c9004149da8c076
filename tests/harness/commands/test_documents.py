"""Documents that others wrote: what is wrong is one sentence, what is unknown is kept, what is hostile is inert."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode
from triptych.harness.reports import problems, tables
from triptych.harness.reports.report.page import page
from triptych.harness.results import document
from triptych.harness.results.result import Result
from triptych.harness.results.status import Evidence, Status
from triptych.harness.results.timing import Measured
from triptych.harness.running.provenance import source

TIMED = Result(
    op="matmul",
    case="1",
    dtype="float32",
    backend="torch",
    target=None,
    evidence=Evidence.HOST,
    status=Status.PASSED,
    timing=Measured(
        timer="host clock",
        evidence=Evidence.HOST,
        cache="warm",
        median_us=2.0,
        p10_us=1.0,
        p90_us=3.0,
        min_us=1.0,
        max_us=3.0,
        warmups=1,
        samples_us=[1.0, 2.0, 3.0],
    ),
)


def body(**changes: Any) -> dict[str, Any]:
    made = json.loads(document.dumps({"seed": 0}, [TIMED]))
    return {**made, **changes}


def row(**changes: Any) -> dict[str, Any]:
    return {**TIMED.to_dict(), **changes}


def timing(**changes: Any) -> list[dict[str, Any]]:
    return [row(timing={**TIMED.to_dict()["timing"], **changes})]


MALFORMED: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "Expecting value"),
    "half": (json.dumps(body())[:200], ": line 1 column"),
    "bytes": (b"\xff\xfe\x00", "can't decode"),
    "deep": ("[" * 100_000, "nested too deeply"),
    "list": ("[1]", "it holds something else"),
    "nothing": ('{"schema_version": 1, "env": {}}', "it has no 'results'"),
    "later": (json.dumps(body(schema_version=99)), "schema version 99, and this triptych reads 1"),
    "table": (json.dumps(body(results={"a": 1})), "Expected `array`, got `object` - at `$.results`"),
    "row": (json.dumps(body(results=[3])), "Expected `object`"),
    "status": (json.dumps(body(results=[row(status="great")])), "Invalid enum value 'great'"),
    "negative": (json.dumps(body(results=timing(median_us=-1.0))), ">= 0.0 - at `$.results[0].timing.median_us`"),
    "negative sample": (json.dumps(body(results=timing(samples_us=[1.0, -2.0]))), "samples_us[1]`"),
    "no number": (json.dumps(body(results=timing(median_us="nan"))), "Expected `float` >= 0.0"),
    "infinite": (json.dumps(body(results=timing(samples_us=["inf"]))), "a time must be a finite number"),
    "environment": (json.dumps(body(env={"git": "main"})), "got `str` - at `$.env.git`"),
    "cores": (json.dumps(body(env={"cores": "many"})), "at `$.env.cores`"),
    "surrogate": ('{"schema_version": 1, "env": {"label": "\\ud800"}, "results": []}', "half of a surrogate pair"),
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize(
    "command",
    [
        "report --html r.html --from",
        "check matmul --backend numpy -q --resume",
        "compare d.json",
        "export --to r.html",
        "cost --html r.html",
    ],
)
def test_a_malformed_document_gets_one_sentence(
    name: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, said = MALFORMED[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert cli.main([*command.split(), "d.json"]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1, err
    assert err.startswith("triptych: d.json is not a document that `triptych --json` wrote: ") and said in err
    assert not (tmp_path / "r.html").exists()
    assert not list(tmp_path.glob(".*")), "no lock is left"


def test_unknown_fields_are_kept_at_every_depth() -> None:
    given = body(a_later_field=[1], results=[row(another={"x": 1}, timing={**row()["timing"], "clock_mhz": 1980})])
    given["env"]["moon"] = "full"
    again = json.loads(document.parse(json.dumps(given)).to_json())
    assert again == {**given, "results": [{**given["results"][0]}]}
    assert again["results"][0]["timing"]["clock_mhz"] == 1980 and again["a_later_field"] == [1]


def test_a_resumed_file_keeps_the_fields_of_a_later_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["check", "matmul", "--backend", "numpy", "--dtype", "float32", "-q", "--resume", "r.json"]
    runner.main(words)
    kept = json.loads(Path("r.json").read_text())
    kept["later"] = {"a": 1}
    kept["results"][0]["mood"] = "good"
    Path("r.json").write_text(json.dumps(kept))
    runner.main(words)
    assert runner.tasks == []
    again = json.loads(Path("r.json").read_text())
    assert again["later"] == {"a": 1} and again["results"][0]["mood"] == "good"


def test_a_document_is_valid_under_the_published_schema(capsys: pytest.CaptureFixture[str]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert cli.main(["schema"]) == ExitCode.OK
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert not list(validator.iter_errors(body()))
    bad = [body(results=timing(median_us=-1.0)), body(results=timing(median_us="nan")), body(env={"git": "main"})]
    assert all(list(validator.iter_errors(one)) for one in bad)
    assert schema["$defs"]["Measured"]["properties"]["median_us"] == {"type": "number", "minimum": 0}


CUT = document.Document(complete=False, planned=9, env={}, results=[TIMED])


@pytest.mark.parametrize("option", ["--md", "--html", ""])
def test_what_was_cut_short_says_so_first(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("d.json").write_text(CUT.to_json())
    assert document.read("d.json").cut_short.startswith("INCOMPLETE: the run was cut short after 1 of 9 results")
    words = ["report", "--html", "-" if option == "--html" else "r.html", "--from", "d.json"]
    cli.main([*words, *(["--md", "-"] if option == "--md" else [])])
    out = capsys.readouterr().out
    if option == "--html":
        assert "<h1>Incomplete: 0 of the 1 comparison so far did not agree</h1>" in out
        assert "All " not in out.partition("<h1>")[2][:200] and 'class="panel centre bad"' in out
    else:
        assert out.startswith("> **INCOMPLETE" if option else "INCOMPLETE"), out


def test_an_interrupted_run_is_not_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def outcome(task: Any) -> tuple[Any, ...]:
        if task.case.name != first:
            raise KeyboardInterrupt
        return Status.PASSED, None

    runner.main(["check", "matmul", "--backend", "numpy", "--dtype", "float32", "-q"])
    first = runner.tasks[0].case.name
    runner.outcome = outcome
    words = "check matmul --backend numpy --dtype float32 --json d.json --resume r.json --html r.html --label desk"
    capsys.readouterr()
    assert runner.main(words.split()) == ExitCode.INTERRUPTED
    assert capsys.readouterr().out.startswith("INCOMPLETE: ")
    for name in ("d.json", "r.json"):
        made = document.read(name)
        assert not made.complete and len(made.results) == 1 < (made.planned or 0) and made.origin.label == "desk"
    assert "<h1>Incomplete" in Path("r.html").read_text()


def test_two_runs_on_one_file_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["check", "matmul", "--backend", "numpy", "--dtype", "float32", "-q", "--resume", "r.json"]
    inner: list[int] = []

    def outcome(task: Any) -> tuple[Any, ...]:
        if not inner:
            inner.append(cli.main(words))
        return Status.PASSED, None

    runner.outcome = outcome
    assert runner.main(words) == ExitCode.OK and inner == [ExitCode.USAGE]
    assert "r.json is being written by another run (process " in capsys.readouterr().err
    inner.append(0)
    assert runner.main(words) == ExitCode.OK and not list(tmp_path.glob(".*.lock"))


ESCAPES = "\x1b[2J\x9b31m\u202e"
HOSTILE = f"=cmd|'/c calc'!A1 {ESCAPES}`x`](http://evil)"


@pytest.mark.parametrize("write", [tables.text, tables.markdown, tables.comma_separated, problems.problems])
def test_names_are_inert(write: Callable[[Any], str]) -> None:
    changes = {name: HOSTILE for name in ("op", "case", "backend", "reason", "repro")}
    hostile = Result.from_dict(row(**changes, status="failed", target=HOSTILE))
    skipped = Result.from_dict(row(**changes, status="skipped"))
    text = write([hostile, skipped])
    if write is tables.comma_separated:
        names = [cell for line in csv.reader(io.StringIO(text)) for cell in line if "calc" in cell]
        assert names and not any(cell.startswith("=") for cell in names)
        return
    assert text and not any(c in text for c in ESCAPES if not c.isprintable()), repr(text)
    if write is tables.markdown:
        assert "](" not in text
    html = page([({}, [hostile, skipped])])
    assert "](http" in html and html.count("<script>") == 1, "in HTML the template escapes"


NOISY = """
import atexit, ctypes, os
print("PYTHON")
os.write(1, b"DESCRIPTOR\\n")
ctypes.CDLL(None).puts(b"C")
atexit.register(print, "AT EXIT")
from triptych import Op

op = Op("same", {"x": ("M",)}, lambda x: x, [{"M": 3}])
"""


@pytest.mark.skipif(os.name != "posix", reason="the C library is POSIX's")
def test_stdout_is_the_document_alone_whatever_a_file_prints(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    words = ["check", "--kernel", "noisy.py", "--backend", "numpy", "--dtype", "float32", "--json", "-"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "triptych", *words], capture_output=True, text=True, env=env, cwd=tmp_path, check=True
    )
    assert document.parse(done.stdout).complete
    assert {"PYTHON", "DESCRIPTOR", "C", "AT EXIT"} <= set(done.stderr.splitlines())


@pytest.mark.skipif(shutil.which("git") is None, reason="git says from which commit a kernel is")
def test_a_document_says_from_which_commit_of_which_repository_the_kernel_is(tmp_path: Path) -> None:
    kernel = tmp_path / "kernels" / "mine.py"
    kernel.parent.mkdir()
    kernel.write_text("x = 1\n")

    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    assert (none := source("op", "nki", kernel)) and none.git is None and none.file == "mine.py"
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "one")
    assert (new := source("op", "nki", kernel)) and new.git and new.git.dirty, "a commit does not hold it yet"
    git("add", ".")
    git("commit", "-q", "-m", "two")
    clean = source("op", "nki", kernel)
    assert clean and clean.git and clean.git.sha == git("rev-parse", "HEAD").strip() and not clean.git.dirty
    assert clean.file == "kernels/mine.py" and clean.sha256 == hashlib.sha256(b"x = 1\n").hexdigest()
    kernel.write_text("x = 2\n")
    assert (dirty := source("op", "nki", kernel)) and dirty.git and dirty.git.dirty
