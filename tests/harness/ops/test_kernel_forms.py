"""NKI kernels in the forms that there are: on two cores, with options by keyword alone, configured by an object."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode
from triptych.harness.ops import loading
from triptych.harness.ops.case import Case, carried, restored, worded
from triptych.harness.running.plan import plan
from triptych.harness.running.request import Request

FORMS = """
import nki, nki.isa as nisa, nki.language as nl
from triptych import Op


class Config(nl.NKIObject):
    def __init__(self, factor, causal=False):
        self.factor, self.causal = factor, causal


@nki.jit
def scaled(x, *, config, twice=False):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    rows = x.shape[0] // nl.num_programs(0)
    part = slice(nl.program_id(0) * rows, (nl.program_id(0) + 1) * rows)
    t = nl.ndarray((rows, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=t, src=x[part, :])
    nisa.tensor_scalar(dst=t, data=t, op0=nl.multiply, operand0=config.factor * (2 if twice else 1))
    nisa.dma_copy(dst=out[part, :], src=t)
    return out


def reference(x, config, twice):
    return config.factor * (2 if twice else 1) * x


SIZES = {"M": 8, "N": 16}
CASES = [{**SIZES, "config": Config(3.0), "twice": False}, {**SIZES, "config": Config(2.0), "twice": True}]
two = Op("two", {"x": ("M", "N")}, reference, CASES, nki=scaled[2])
named = Op("named", {"x": ("M", "N")}, reference, CASES, nki="forms.py:scaled[2]")
one = Op("one", {"x": ("M", "N")}, reference, CASES, nki=scaled)
"""


@pytest.fixture
def forms(tmp_path: Path) -> Path:
    path = tmp_path / "forms.py"
    path.write_text(FORMS)
    return path


def test_they_run_as_they_are(forms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", str(forms), "--cases", "smoke", "--dtype", "float32", "--backend", "nki-sim"]
    assert cli.main(words) == ExitCode.OK, capsys.readouterr()
    assert "6 passed" in capsys.readouterr().out


def test_a_wrong_option_is_seen(forms: Path) -> None:
    forms.write_text(FORMS.replace("(2 if twice else 1))\n    nisa", "1)\n    nisa"))
    words = ["check", str(forms), "--cases", "smoke", "--dtype", "float32", "--backend", "nki-sim", "-q"]
    assert cli.main(words) == ExitCode.MISMATCH


def test_kernels_are_named_with_their_cores(forms: Path) -> None:
    ops = loading.from_file(forms)
    assert {name: str(op.nki).rpartition(":")[2] for name, op in ops.items()} == {
        "two": "scaled[2]",
        "named": "scaled[2]",
        "one": "scaled",
    }


def test_a_kernel_of_a_module_that_the_file_imports_is_named_with_its_cores(forms: Path) -> None:
    forms.with_name("ops_of_forms.py").write_text(
        "import forms\n"
        "from triptych import Op\n"
        'one = Op("one", {"x": ("M", "N")}, forms.reference, forms.CASES, nki=forms.scaled)\n'
        'two = Op("two", {"x": ("M", "N")}, forms.reference, forms.CASES, nki=forms.scaled[2])\n'
    )
    ops = loading.from_file(forms.with_name("ops_of_forms.py"))
    assert {name: op.nki for name, op in ops.items()} == {"one": f"{forms}:scaled", "two": f"{forms}:scaled[2]"}


def test_an_object_of_the_users_file_is_found_again_in_another_process(forms: Path) -> None:
    made = plan(Request(sources=[str(forms)], dtypes=["float32"], backends=["nki-sim"], sets=["smoke"]))
    cases: list[Case] = [pickle.loads(pickle.dumps(task.case)) for task in made.tasks]
    assert [case.name for case in cases[:2]] == [
        "8x16-config=Config(factor=3.0;causal=False)",
        "8x16-config=Config(factor=2.0;causal=False)-twice",
    ]
    op = loading.from_file(forms)["two"]
    assert restored(cases[1], op.declared_sets).params["config"].factor == 2.0
    plain = Case("op", "c", {}, "float32", {"window": (1, None), "causal": True})
    assert carried(plain, {}) == plain == restored(plain, {})


@pytest.mark.parametrize(
    ("value", "words"), [(1.5, "1.5"), (("a", 1), "('a', 1)"), (len, "len"), (object(), "object"), (None, "None")]
)
def test_params_in_words_are_the_same_in_every_process(value: object, words: str) -> None:
    assert worded(value) == words
