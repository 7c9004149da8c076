"""What is said where there is no Ray, no cluster, or one of other versions."""

from __future__ import annotations

import socket
import sys
import time
from types import SimpleNamespace

import pytest

from triptych.harness.cluster import connection, versions
from triptych.harness.commands import cli
from triptych.harness.commands.arguments import values
from triptych.harness.exit_codes import ExitCode

CHECK = ("check", "matmul", "--backend", "numpy", "--cases", "smoke", "-q")


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one sentence of a usage error."""
    assert cli.main([*words]) == ExitCode.USAGE
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("triptych: ")]
    return line


def test_without_ray_a_sentence_names_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'triptych[cluster]'" in said(capsys, *CHECK, "--cluster", "auto")


def test_an_address_where_nobody_answers_is_told_within_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begun = time.monotonic()
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        line = said(capsys, *CHECK, "--cluster", address)
        assert f"nobody answers at {address}: " in line and "refused" in line
    assert time.monotonic() - begun < 10 * connection.REACHED_S, "and Ray itself tries for a minute"


def test_what_is_no_ray_is_told_within_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    monkeypatch.setattr(connection, "speaks_grpc", lambda place: place != f"127.0.0.1:{port}")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        line = said(capsys, *CHECK, "--cluster", f"ray://127.0.0.1:{port}")
    assert f"what answers at ray://127.0.0.1:{port} is no Ray" in line


def test_what_ray_refuses_is_a_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**settings: object) -> None:
        assert settings["address"] == "auto" and settings["log_to_driver"] is False
        raise RuntimeError("Version mismatch: the cluster has Python 3.9\nand much more")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    line = said(capsys, *CHECK, "--cluster", "auto")
    assert "cannot use the cluster at auto: RuntimeError: Version mismatch: the cluster has Python 3.9. HOST" in line


@pytest.mark.parametrize("address", ["local", "auto", "head:6379", "ray://10.0.0.1:10001", "[::1]:6379"])
def test_addresses_are_rays(address: str) -> None:
    assert values.cluster(address) == address


@pytest.mark.parametrize("address", ["", "head", "http://head:80", "head:", "head:0", "head:70000", "a b:1"])
def test_other_addresses_are_refused_with_those_that_exist(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = said(capsys, *CHECK, f"--cluster={address}")
    assert "local" in line and "ray://HOST:PORT" in line and repr(address) in line


def test_fuzz_and_watch_stay_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    for option in (("--fuzz", "1"), ("--watch",)):
        assert "does not go with --cluster" in said(capsys, *CHECK[:4], *option, "--cluster", "auto")


def test_versions_that_differ_are_named_on_both_sides() -> None:
    mine = {"python": "3.11", "triptych": "0.1.0", "numpy": "2.4.0", "triton": "3.6.0"}
    assert versions.difference(mine, mine, "one") == ""
    assert versions.difference(mine, {**mine, "torch": "2.13.0"}, "one") == ""
    assert versions.difference(mine, {n: v for n, v in mine.items() if n != "triton"}, "one") == "", (
        "it is skipped there"
    )
    told = versions.difference(mine, {**mine, "numpy": "2.1.0", "triton": "3.5.1"}, "one")
    assert "node one has numpy 2.1.0, triton 3.5.1, and this machine numpy 2.4.0, triton 3.6.0" in told


def test_a_change_of_a_source_is_another_version(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    here = versions.here()
    assert {"python", "triptych", "numpy", versions.SOURCES} <= here.keys()
    monkeypatch.setattr(versions, "OURS", versions.OURS[:1])
    assert versions.sources.__wrapped__() != here[versions.SOURCES]


def test_nodes_of_one_name_are_told_apart() -> None:
    nodes = [
        {"NodeID": "aaaaaaaa", "NodeName": "10.0.0.1", "NodeManagerAddress": "10.0.0.1"},
        {"NodeID": "bbbbbbbb", "NodeName": "10.0.0.1", "NodeManagerAddress": "10.0.0.1"},
        {"NodeID": "cccccccc", "NodeName": "h200-3", "NodeManagerAddress": "10.0.0.2"},
        {"NodeID": "dddddddd", "NodeManagerAddress": "10.0.0.4"},
    ]
    assert list(connection.node_names(nodes).values()) == ["10.0.0.1/aaaaaa", "10.0.0.1/bbbbbb", "h200-3", "10.0.0.4"]
