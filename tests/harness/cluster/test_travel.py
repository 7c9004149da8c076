"""What travels to a node: which files, under which digest, and what is unpacked there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from triptych.harness.cluster import seat, travel
from triptych.harness.cluster.travel import files_of, packed, unpacked
from triptych.harness.collection import builtin
from triptych.harness.ops.loading import from_file
from triptych.harness.running.tasks import Settings

MINE = """
from triptych import Op
from beside import factor
from pack.deep.inner import zero

op = Op("mine", {"x": ("M",)}, lambda x: factor * x + zero, {"smoke": [{"M": 2}]}, triton="../other/k.py:launch")
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A file with neighbours, and its kernel in another folder."""
    written = {
        "mine/op.py": MINE,
        "mine/beside.py": "factor = 2.0\n",
        "mine/data.txt": "not a module",
        "mine/notes/far.py": "no package, and nobody imports it",
        "mine/pack/__init__.py": "",
        "mine/pack/deep/__init__.py": "",
        "mine/pack/deep/inner.py": "zero = 0.0\n",
        "mine/pack/__pycache__/old.py": "",
        "other/k.py": "from its import x\n\n\ndef launch(x, out): ...\n",
        "other/its.py": "x = 1\n",
    }
    for name, text in written.items():
        file = tmp_path / "home" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "home"


def luggage_of(home: Path) -> travel.Luggage:
    source = str(home / "mine" / "op.py")
    return packed(files_of([source], from_file(source).values()))


def test_a_file_travels_with_what_it_can_import_and_so_does_its_kernels(home: Path) -> None:
    assert sorted(luggage_of(home).files) == [
        "mine/beside.py",
        "mine/op.py",
        "mine/pack/__init__.py",
        "mine/pack/deep/__init__.py",
        "mine/pack/deep/inner.py",
        "other/its.py",
        "other/k.py",
    ]


def test_a_member_of_a_package_travels_with_all_of_it(tmp_path: Path) -> None:
    inner = tmp_path / "top" / "sub"
    inner.mkdir(parents=True)
    for file in (inner.parent / "__init__.py", inner / "__init__.py", inner / "k.py", tmp_path / "script.py"):
        file.write_text("")
    (inner / "again").symlink_to(inner.parent, target_is_directory=True)
    found = set(packed([inner / "k.py"]).files)
    assert found == {"script.py", "top/__init__.py", "top/sub/__init__.py", "top/sub/k.py"}


def test_kernels_of_ours_are_on_every_node(home: Path) -> None:
    assert files_of([], builtin().values()) == []


def test_the_digest_is_of_names_and_contents_and_not_of_where_they_lie(home: Path, tmp_path: Path) -> None:
    first = luggage_of(home)
    os.rename(home, tmp_path / "elsewhere")
    moved = luggage_of(tmp_path / "elsewhere")
    assert moved.digest == first.digest and moved.root != first.root
    (tmp_path / "elsewhere" / "mine" / "beside.py").write_text("factor = 3.0\n")
    assert luggage_of(tmp_path / "elsewhere").digest != first.digest
    assert travel.Luggage("", {"a": b"bc"}).digest != travel.Luggage("", {"ab": b"c"}).digest


def test_what_is_unpacked_loads_as_it_did_and_is_mended_if_it_was_changed(home: Path, tmp_path: Path) -> None:
    luggage, node = luggage_of(home), tmp_path / "node"
    node.mkdir()
    folder = unpacked(luggage, node)
    assert folder == node / luggage.digest and list(node.iterdir()) == [folder]
    op = from_file(folder / luggage.place(str(home / "mine" / "op.py")))["mine"]
    assert op.reference(1.0) == 2.0 and str(op.triton).startswith(str(folder)), "and not from where it came"
    before = (folder / "mine" / "op.py").stat()
    assert unpacked(luggage, node) == folder and (folder / "mine" / "op.py").stat() == before, "once is enough"
    (folder / "mine" / "beside.py").write_text("factor = 666\n")
    again = unpacked(luggage, node)
    assert again == folder and (folder / "mine" / "beside.py").read_text() == "factor = 2.0\n"


def test_the_folder_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(travel.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = travel.private_folder()
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o077 == 0 and travel.private_folder() == folder
    folder.chmod(0o777)
    assert travel.private_folder() != folder, "anybody could have put something there"


def test_a_result_names_files_as_they_are_called_at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from triptych.harness.ops.case import Case
    from triptych.harness.results.status import Status
    from triptych.harness.running.tasks import Task, result_without_run

    performed: list[Task] = []

    def perform(self: object, task: Task, settings: Settings, timeout_s: float) -> object:
        performed.append(task)
        return result_without_run(task, Status.ERROR, f"{task.source}:3: it raised")

    luggage, at = luggage_of(home), seat.Seat("one", seat.CPU, {})
    monkeypatch.setattr(seat, "unpacked", lambda luggage: Path("/node/abc"))
    monkeypatch.setattr(seat.WorkerProcess, "perform", perform)
    at.unpack(luggage)
    task = Task("mine", "mine/op.py", Case("mine", "c", {"M": 2}, "float32"), "numpy", None)
    result = at.perform(task, luggage.digest, Settings(), 1.0)
    assert performed[0].source == "/node/abc/mine/op.py"
    assert result.reason == f"{home}/mine/op.py:3: it raised"
