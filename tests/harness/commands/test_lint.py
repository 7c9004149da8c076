"""`triptych lint` as a user types it: findings, summary, JSON and exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from triptych.harness import nki_versions
from triptych.harness.commands import cli, new
from triptych.harness.exit_codes import ExitCode
from triptych.simulator import options

GOOD = "import nki\n@nki.jit\ndef kernel(x):\n    return x\n"
WARNED = "import nki, nki.language as nl\n@nki.jit\ndef kernel(x):\n    print(nl.range(4))\n    return x\n"
WRONG = """import nki, nki.isa as nisa, nki.language as nl
@nki.jit
def kernel(x):
    nisa.exponential(dst=x, src=x)
    return x
@nki.jit
def other(x):
    return nl.mgrid[0:4] if nl.range(4) else x
"""


@pytest.fixture
def lint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """lint("words", name=text, ..) in a folder with those files: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(words: str, **files: str) -> tuple[int, str, str]:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        code = cli.main(["lint", *words.split()])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_a_clean_file(lint) -> None:
    assert lint("a.py", a=GOOD) == (0, "0 errors, 0 warnings in 1 file\n", "")


def test_a_warning_is_no_failure(lint) -> None:
    code, out, err = lint("a.py b.py", a=GOOD, b=WARNED)
    assert (code, err) == (ExitCode.OK, "")
    first, last = out.splitlines()
    assert first.startswith(
        "b.py:4:11: warning older-name nl.range is in no reference manual; write range [release-notes"
    )
    assert last == "0 errors, 1 warning in 2 files"


def test_an_error_is(lint) -> None:
    code, out, _ = lint("a.py", a=WRONG)
    assert code == ExitCode.MISMATCH
    assert [line.split(" [")[0] for line in out.splitlines()] == [
        "a.py:8:12: error removed-name nl.mgrid is not in NKI 0.7: use slices",
        "a.py:8:29: warning older-name nl.range is in no reference manual; write range",
        "1 error, 1 warning in 1 file",
    ]


@pytest.mark.parametrize(("target", "code"), [("trn3", 0), ("trn2", 1), ("trn3,trn2", 1), ("gen3", 1)])
def test_one_function_on_a_chip(lint, target: str, code: int) -> None:
    got, out, _ = lint(f"a.py:kernel --target {target}", a=WRONG)
    assert got == code and ("error generation nisa.exponential needs NeuronCore-v4" in out) is bool(code)


def test_several_functions_of_a_file_are_one_file(lint) -> None:
    assert lint("a.py:kernel a.py:other a.py:other", a=WRONG)[1].endswith("\n1 error, 1 warning in 1 file\n")


def test_a_file_with_a_colon_in_its_name(lint, tmp_path: Path) -> None:
    (tmp_path / "a:b").write_text(GOOD)
    assert lint("a:b")[0] == ExitCode.OK


def test_a_version_of_nki_has_its_own_rules(lint) -> None:
    text = "import nki\n@nki.jit\ndef kernel(x):\n    print(x is None)\n    return x\n"
    assert lint("a.py", a=text)[1] == "0 errors, 0 warnings in 1 file\n"
    assert "4:11: warning identity " in lint("a.py --nki 0.6", a=text)[1]
    assert json.loads(lint("a.py --nki 0.6 --json -", a=text)[1])["nki"] == "0.6"
    assert "invalid choice: '0.5'" in lint("a.py --nki 0.5", a=text)[2]
    assert os.environ.get(nki_versions.VARIABLE) is None
    assert (nki_versions.VERSIONS, nki_versions.VARIABLE) == (options.APIS, options.API_VARIABLE)


def test_json_is_one_document(lint) -> None:
    code, out, err = lint("a.py --target trn2 --json -", a=WRONG)
    document = json.loads(out)
    assert code == ExitCode.MISMATCH and err.endswith("2 errors, 1 warning in 1 file\n")
    assert document["schema_version"] == 1 and document["target"] == "trn2"
    assert document["findings"][0] == {
        "rule": "generation",
        "severity": "error",
        "path": "a.py",
        "line": 4,
        "column": 5,
        "message": "nisa.exponential needs NeuronCore-v4, and trn2 is v3",
        "source": "nki/api/nki/isa/__init__.py, each function's availability",
    }


def test_json_beside_the_lines(lint, tmp_path: Path) -> None:
    _, out, _ = lint("a.py --json found.json", a=WARNED)
    assert out.endswith("0 errors, 1 warning in 1 file\n")
    assert [f["rule"] for f in json.loads((tmp_path / "found.json").read_text())["findings"]] == ["older-name"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "required: PATH[:FUNCTION]"),
        ("nowhere.py", "cannot read nowhere.py: No such file or directory."),
        ("a.py:nothing", "a.py has no function nothing; it has kernel."),
        (
            "empty.py",
            "empty.py holds no kernel: no function is decorated with nki.jit or issues an instruction of nki; "
            "name one, as empty.py:function.",
        ),
        ("a.py broken.py", "broken.py:1 is not Python: '(' was never closed."),
        ("a.py --target trn9", "unknown target 'trn9'"),
        ("a.py --json nowhere/x.json", "there is no folder nowhere"),
        ("a.py --strict", "unknown option '--strict'"),
    ],
)
def test_usage(lint, words: str, said: str) -> None:
    code, out, err = lint(words, a=GOOD, empty="x = 1\n", broken="x = (\n")
    assert code == ExitCode.USAGE and out == "" and said in err and err.count("\n") == 1


def test_a_new_file_is_clean(lint) -> None:
    assert lint("rowscale.py --target trn1", rowscale=new.source("rowscale"))[:2] == (
        ExitCode.OK,
        "0 errors, 0 warnings in 1 file\n",
    )
