"""The table of commands: each row has its file, and what a command line says reaches the request."""

from __future__ import annotations

import importlib
from dataclasses import fields
from pathlib import Path

import pytest

from triptych.harness.commands.arguments import parser
from triptych.harness.commands.arguments.outputs import Outputs
from triptych.harness.commands.arguments.parser import COMMANDS, Command, parse
from triptych.harness.errors import UsageError
from triptych.harness.judge.tolerance import Bounds
from triptych.harness.ops.op import SHORT_SET
from triptych.harness.running.request import Request

FOLDER = Path(parser.__file__).parents[1]
SHARED = {"__init__", "cli", "new_template", "allocating", "hub_folder", "single_file"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_row_has_a_file_with_a_function(command: Command) -> None:
    module, _, function = command.run.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_each_file_has_a_row() -> None:
    rows = {command.run.partition(":")[0].rpartition(".")[2] for command in COMMANDS}
    assert {
        file.stem
        for place in (FOLDER, FOLDER / "nki", FOLDER / "gpu", FOLDER / "sharing")
        for file in place.glob("*.py")
    } == rows | SHARED


def test_a_request_is_what_the_options_say() -> None:
    line = (
        "bench mat* --kernel k.py --backend a,b --backend c --require d --target trn1 --dtype float32 --cases x,y -k z "
    )
    line += (
        "--case M=1 --case M=2 -a M=[3,4] -a N=5 --seed 6 --rtol 1e-3 --timeout 2m --memory 1G --paranoid --no-check"
    )
    assert Request.from_arguments(parse(line.split())) == Request(
        ops=["mat*"],
        sources=["k.py"],
        backends=["a", "b", "c"],
        required=["d"],
        targets=["trn1"],
        dtypes=["float32"],
        sets=["x", "y"],
        default_sets=["model"],
        names="z",
        specs=["M=1", "M=2"],
        axes={"M": [3, 4], "N": [5]},
        seed=6,
        timed=True,
        no_check=True,
        tolerance=Bounds("command line", rtol=1e-3),
        timeout_s=120.0,
        memory=2**30,
        paranoid=True,
    )


def test_a_request_that_says_nothing_is_the_default() -> None:
    given, usual = Request.from_arguments(parse(["check"])), Request(default_sets=["smoke", SHORT_SET])
    for name in (field.name for field in fields(Request)):
        one, other = getattr(given, name), getattr(usual, name)
        assert one == other or list(one) == list(other), name


def test_options_do_not_leak_from_one_parse_to_the_next() -> None:
    parse(["check", "--backend", "numpy", "-a", "M=1", "--case", "M=2"])
    again = parse(["check"])
    assert (again.backends, again.axes, again.specs) == ([], {}, [])


def test_one_document_may_take_stdout() -> None:
    outputs = Outputs.from_arguments(parse(["profile", "--json", "-", "--trace", "t.json"]))
    assert outputs == Outputs(json="-", trace="t.json") and outputs.stdout_taken
    assert not Outputs(json="x", resume="y").stdout_taken


@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        ("256:8192:x2", [256, 512, 1024, 2048, 4096, 8192]),
        ("256:1024:+256", [256, 512, 768, 1024]),
        ("[1,3:10:+3,7]", [1, 3, 6, 9, 7]),
        ("3:100:x5", [3, 15, 75]),
        ("0:2:+1", [0, 1, 2]),
        ("5:5:x2", [5]),
    ],
)
def test_an_axis_takes_ranges(words: str, sizes: list[int]) -> None:
    assert parse(["check", "-a", f"M={words}"]).axes == {"M": sizes}


@pytest.mark.parametrize(
    "words", ["2:1:x2", "1:8:x1", "1:8:+0", "0:8:x2", "1:8", "1:8:2", "1:8:*2", "a:8:x2", "-1:8:+1"]
)
def test_a_range_that_leads_nowhere_says_what_one_is(words: str) -> None:
    with pytest.raises(UsageError, match=r"FIRST:LAST:xFACTOR or FIRST:LAST:\+STEP, as 256:8192:x2"):
        parse(["check", "-a", f"M={words}"])


def test_a_range_without_end_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="more than 1000 sizes"):
        parse(["check", "-a", f"M=1:{10**12}:+1"])
