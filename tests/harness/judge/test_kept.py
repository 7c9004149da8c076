"""What is kept of a prepared case comes back bit for bit; a broken file, a full folder and a busy one cost nothing."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from users_source import SOURCE, executed, op_of, problem_of

from triptych.harness.collection import builtin
from triptych.harness.judge.bounds import Bounds
from triptych.harness.judge.kept import folder as folders
from triptych.harness.judge.kept import key, preparing
from triptych.harness.judge.kept.contents import NotKept, Packed, pack, unpack
from triptych.harness.judge.kept.folder import Folder
from triptych.harness.judge.prepared import PreparedCase, prepare
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.outputs.kinds import Exact, Output


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if our files had not been saved for a while."""
    monkeypatch.setattr(key, "_imported", max(key._imported, 1e11))
    key.judge.cache_clear()
    monkeypatch.setattr(preparing, "WORTH_S", 0.0)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in use, which is empty."""
    monkeypatch.setenv(folders.VARIABLE, str(tmp_path))
    return tmp_path / "references"


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Problem]:
    """The problems that are prepared from now on, in the place of being found."""
    found: list[Problem] = []

    def counting(problem: Problem, wanted: Bounds | None = None) -> PreparedCase:
        found.append(problem)
        return prepare(problem, wanted)

    monkeypatch.setattr(preparing, "prepare", counting)
    return found


def same(a: PreparedCase, b: PreparedCase) -> None:
    """Fails unless both expect the same, bit for bit, in arrays of the same strides."""
    assert list(a.outputs) == list(b.outputs)
    assert list(a.problem.evaluated) == list(b.problem.evaluated)
    for name, one in a.outputs.items():
        other = b.outputs[name]
        assert one.expected.tolerance == other.expected.tolerance
        pairs = [
            (getattr(one.expected, field), getattr(other.expected, field))
            for field in ("reference", "rounded", "unit", "may_be_nan")
        ]
        for x, y in [*pairs, (a.problem.evaluated[name], b.problem.evaluated[name])]:
            assert (x is None) == (y is None)
            if x is not None:
                assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())
                assert type(x) is type(y)
                assert [s for s, n in zip(x.strides, x.shape, strict=True) if n > 1] == [
                    s for s, n in zip(y.strides, y.shape, strict=True) if n > 1
                ]


def two_outputs(x: Any) -> Any:
    return np.swapaxes(np.sin(x), 0, 1), np.sign(x).astype(np.int64), None


@pytest.mark.parametrize("regime", ["normal", "nonfinite", "large"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_comes_back_is_what_was_kept(dtype: str, regime: str) -> None:
    problem = problem_of(builtin()["attention"], dtype, regime=regime)
    made = prepare(problem)
    same(unpack(problem, memoryview(bytearray(b"".join(map(bytes, pack(made)))))), made)


def test_several_outputs_in_other_orders_of_memory_come_back() -> None:
    op = op_of(two_outputs, outputs={"a": Output(), "b": Exact(), "c": Output()})
    problem = problem_of(op)
    made = prepare(problem)
    found = unpack(problem, memoryview(bytearray(b"".join(map(bytes, pack(made))))))
    same(found, made)
    assert found.problem.evaluated["c"] is None


def test_a_kernel_is_judged_by_what_was_kept_as_by_what_was_made(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared_anew = counted(monkeypatch)
    problem = problem_of(op_of(executed(SOURCE).reference))
    first, second = preparing.prepared(problem), preparing.prepared(problem)
    assert len(prepared_anew) == 1
    same(first, second)
    right = {"": first.problem.outputs[""].rounded.copy()}
    wrong = {"": right[""] + np.float32(1e-3)}
    assert first.judge(right) == second.judge(right)
    assert first.judge(wrong).reason == second.judge(wrong).reason
    assert second.judge(wrong).status.value == "failed"


def test_a_further_save_of_the_same_reference_finds_it(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other kernels, comments and lines around it are no change."""
    prepared_anew = counted(monkeypatch)
    for source in (SOURCE, f"# a comment\n\n{SOURCE}\ndef kernel(x):\n    return x\n"):
        preparing.prepared(problem_of(op_of(executed(source).reference)))
    assert len(prepared_anew) == 1


def test_a_broken_file_is_computed_anew_and_mended(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared_anew = counted(monkeypatch)
    problem = problem_of(op_of(executed(SOURCE).reference))
    made = preparing.prepared(problem)
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    for broken in (whole[:-1], whole[:10], b"", whole[:200] + b"?" + whole[201:], b"?" * len(whole), whole + whole):
        file.write_bytes(broken)
        before = len(prepared_anew)
        same(preparing.prepared(problem), made)
        assert len(prepared_anew) == before + 1
        assert file.read_bytes() == whole


def test_a_folder_that_takes_nothing_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(folders.VARIABLE, str(tmp_path / "file"))
    problem = problem_of(op_of(executed(SOURCE).reference))
    same(preparing.prepared(problem), prepare(problem))


def test_a_reference_that_changes_what_it_reads_is_not_kept(kept: Path) -> None:
    calls: list[int] = []

    def reference(x: Any) -> Any:
        calls.append(0)
        return x + 1

    problem = problem_of(op_of(reference))
    preparing.prepared(problem)
    assert calls and not kept.exists()


def test_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, cache, expected in (
        ("", str(tmp_path / "x"), tmp_path / "x" / "triptych" / "references"),
        ("", "", Path.home() / ".cache" / "triptych" / "references"),
        (str(tmp_path), "", tmp_path / "references"),
        ("off", "", None),
    ):
        monkeypatch.setenv(folders.VARIABLE, value)
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
        assert folders.place() == expected


def test_off_and_paranoid_keep_and_find_nothing(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of(op_of(executed(SOURCE).reference))
    preparing.prepared(problem, keep=False)
    assert not kept.exists()
    monkeypatch.setenv(folders.VARIABLE, "off")
    preparing.prepared(problem)
    assert not kept.exists()


def test_what_takes_no_time_is_not_kept(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "WORTH_S", 1e9)
    preparing.prepared(problem_of(op_of(executed(SOURCE).reference)))
    assert not kept.exists()


def test_the_limit_holds_and_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    folder = Folder(tmp_path, most=16_000)
    for number in range(32):
        folder.put(f"{number:040x}", [bytes(1000)])
        os.utime(tmp_path / f"{number:040x}", (number, number))
        if number >= 4:
            assert folder.get(f"{4:040x}") is not None  # which makes it the last
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 16_000 + 2 * 1024
    assert not (tmp_path / f"{0:040x}").exists()
    folder.put("1" * 40, [bytes(20_000)])
    assert folder.get("1" * 40) is None


def test_what_a_process_left_half_written_goes(tmp_path: Path) -> None:
    (tmp_path / ".abandoned").write_bytes(b"half")
    os.utime(tmp_path / ".abandoned", (1, 1))
    (tmp_path / ".of-another").write_bytes(b"half")
    Folder(tmp_path).put("0" * 40, [b"whole"])
    assert sorted(file.name for file in tmp_path.iterdir()) == [".of-another", "0" * 40]


def test_many_may_write_and_read_at_once(tmp_path: Path) -> None:
    def work(number: int) -> bool:
        folder, key = Folder(tmp_path, most=100_000), f"{number % 3:040x}"
        content = bytes([number % 3]) * 10_000
        found = True
        for _ in range(20):
            folder.put(key, [content])
            there = folder.get(key)
            found = found and (there is None or bytes(there) == content)
        return found

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


@pytest.mark.parametrize("x", [np.array([1, None]), np.ones(6)[::2], 1.0, np.ones(2).astype(">f8")])
def test_what_would_not_come_back_as_it_is_is_not_kept(x: Any) -> None:
    with pytest.raises(NotKept):
        Packed().add(x)
