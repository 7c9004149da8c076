"""Where results are from: whose kernels, in which state of which repository, on which emulators."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from triptych.harness.backends import BACKENDS
from triptych.harness.collection import builtin
from triptych.harness.ops.op import Op
from triptych.harness.running import provenance as room
from triptych.harness.running.plan import plan
from triptych.harness.running.provenance import Recorder, in_repository, provenance, source
from triptych.harness.running.request import Request
from triptych.harness.running.session import Run
from triptych.harness.running.tasks import Settings


def op_of(**panels):
    return Op("one", {"x": ("M",)}, lambda x: 2 * x, {"smoke": [{"M": 3}]}, dtypes=("float32",), **panels)


def git(folder, *words):
    who = ("-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "k.py").write_text("1")
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_kernel_is_its_file_and_the_state_of_its_repository(repository):
    path, sha = repository / "kernels" / "k.py", git(repository, "rev-parse", "HEAD")
    found = source("one", "nki", path)
    assert (found.op, found.panel, found.file) == ("one", "nki", "kernels/k.py")
    assert found.sha256 == hashlib.sha256(b"1").hexdigest() and (found.git.sha, found.git.dirty) == (sha, False)
    path.write_text("2")
    assert source("one", "nki", path).git.dirty


def test_a_file_that_is_not_tracked_is_as_good_as_changed(repository):
    new = repository / "kernels" / "new.py"
    new.write_text("1")
    assert in_repository(new) == "" and in_repository(repository / "kernels" / "k.py") == "kernels/k.py"
    found = source("one", "nki", new)
    assert found.file == "new.py" and found.git.dirty


def test_a_file_that_is_ignored_is_of_no_repository(repository):
    ignored = repository / "ignored.py"
    ignored.write_text("1")
    assert in_repository(ignored) is None
    found = source("one", "nki", ignored)
    assert found.file == "ignored.py" and found.git is None


def test_a_file_of_no_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "k.py").write_text("1")
    assert in_repository(tmp_path / "k.py") is None and source("one", "nki", tmp_path / "k.py").git is None
    assert source("one", "nki", None) is None and source("one", "nki", tmp_path / "gone.py") is None
    assert source("one", "nki", tmp_path) is None


AWAY = "it cannot run here"


@pytest.fixture
def tested(monkeypatch):
    """Backends of which two are here, and one of these has a self-test; they count what is asked of them."""
    asked = []
    for name, (here, found) in {"numpy": (True, None), "nki-sim": (True, AWAY), "torch": (False, AWAY)}.items():
        monkeypatch.setattr(BACKENDS[name], "missing", lambda here=here: None if here else "it is away", raising=False)
        monkeypatch.setattr(
            BACKENDS[name], "selftest", lambda name=name, found=found: asked.append(name) or found, raising=False
        )
    return asked


def test_emulators_that_are_used_are_tested(tested, monkeypatch):
    monkeypatch.setattr(room.environment, "record", lambda label: {"label": label, "cpu": "fast"})
    found = provenance("triptych check", 7, ["numpy", "nki-sim", "torch"], label="mine")
    assert found == {
        **{"label": "mine", "cpu": "fast", "seed": 7, "command": "triptych check", "kernels": []},
        "conformance": {"nki-sim": {"passed": 0, "failed": [], "reason": AWAY}},
    }
    assert tested == ["numpy", "nki-sim"], "and none that is not here"


def test_an_emulator_that_no_kernel_runs_on_is_not_tested(tested):
    found = provenance("c", 0, ["numpy", "nki-sim"], [op_of()])
    assert tested == ["numpy"] and found["conformance"] == {} and found["kernels"] == []
    kernel = builtin()["matmul"].nki
    assert provenance("c", 0, ["nki-sim"], [op_of(), op_of(nki=kernel)])["conformance"]


def test_kernels_of_the_panels_that_run_are_named_once(tested):
    matmul, rmsnorm = builtin()["matmul"], builtin()["rmsnorm"]
    found = provenance("c", 0, ["numpy", "nki-sim", "nki", "triton-cpu"], [matmul, rmsnorm, op_of()])["kernels"]
    assert [(one["op"], one["panel"], Path(one["file"]).name) for one in found] == [
        ("matmul", "nki", "matmul.py"),
        ("matmul", "triton", "matmul.py"),
        ("rmsnorm", "nki", "rmsnorm.py"),
        ("rmsnorm", "triton", "rmsnorm.py"),
    ]
    assert provenance("c", 0, ["numpy"], [matmul])["kernels"] == [], "the reference is no kernel"


def test_a_run_gets_its_origin_when_it_starts(monkeypatch):
    asked = []
    monkeypatch.setattr(room, "provenance", lambda *words: asked.append(words) or {"seed": 7})
    op = op_of()
    run = Run(plan(Request(backends=["numpy", "nki-sim"], seed=7), {"one": op}), Settings())
    Recorder("triptych check", "mine").started(run)
    ((command, seed, backends, ops, label),) = asked
    assert (command, seed, list(backends), list(ops), label) == (
        "triptych check",
        7,
        ["numpy", "nki-sim"],
        [op],
        "mine",
    )
    assert run.env == {"seed": 7}
