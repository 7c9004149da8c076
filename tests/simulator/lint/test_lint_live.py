"""What the simulator says of a kernel that it runs: each finding once, as a warning at the kernel's own line."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import LintWarning, Options
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.lint import live
from triptych.simulator.lint.reach import at_line
from triptych.simulator.lint.source import File

TEXT = """import nki
import nki.isa as nisa
import nki.language as nl

def stored(out, tile):
    nisa.dma_copy(dst=out, src=tile)
    return out if nl.range(1) else out

@nki.jit
def kernel(x):
    tile = nl.load(x)
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    stored(out, nl.divide(tile, tile))
    return out

@nki.jit
def divided(x, value):
    tile = nl.load(x)
    nl.divide(tile, tile)
    return x

@nki.jit
def again(x):
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    stored(out, nl.load(x))
    return out

@nki.jit
def clean(x):
    return x

@nki.jit
def unlike(x):
    assert x is not None
    return x
"""
X = np.ones((2, 3), np.float32)


@pytest.fixture
def kernels(tmp_path):
    path = tmp_path / "kernels.py"
    path.write_text(TEXT)
    return simulator.load(path)


def said(call):
    """(category, file, line, first word) of each warning of a call, remarks on what ran apart."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [
        (w.category, w.filename, w.lineno, str(w.message).split(":")[0])
        for w in caught
        if w.category is not simulator.SimulatorWarning
    ]


def test_each_finding_is_a_warning_at_its_line(kernels):
    file = kernels.__file__
    assert said(lambda: simulator.run(kernels.kernel, X)) == [
        (LintWarning, file, 7, "older-name"),
        (LintWarning, file, 13, "not-on-hardware"),
    ]


def test_a_function_is_linted_once(kernels):
    assert len(said(lambda: simulator.run(kernels.kernel, X))) == 2
    assert said(lambda: simulator.run(kernels.kernel, X)) == []
    assert said(lambda: simulator.run(kernels.kernel.function, X)) == []


def test_a_function_is_read_once(kernels, monkeypatch):
    read, found = [], live.findings
    monkeypatch.setattr(live, "findings", lambda *of: read.append(of) or found(*of))
    for _ in range(3):
        said(lambda: simulator.run(kernels.kernel, X))
    assert len(read) == 1


def test_what_is_forgotten_is_told_again(kernels):
    for _ in range(2):
        assert len(said(lambda: simulator.run(kernels.kernel, X))) == 2
        live.forget()


def test_a_finding_that_two_kernels_reach_is_told_once(kernels):
    assert len(said(lambda: simulator.run(kernels.kernel, X))) == 2
    assert said(lambda: simulator.run(kernels.again, X)) == []


def test_a_finding_is_told_once_however_often_the_file_is_loaded(kernels):
    assert len(said(lambda: simulator.run(kernels.kernel, X))) == 2
    assert said(lambda: simulator.run(simulator.load(kernels.__file__).kernel, X)) == []


def test_each_version_of_nki_has_its_own_findings(kernels):
    clean, api = kernels.unlike.function, simulator.Options(api="0.6")
    assert said(lambda: simulator.run(clean, X)) == []
    assert [name for *_, name in said(lambda: simulator.run(clean, X, options=api))] == ["identity"]


def test_simulate_lints_too(kernels):
    assert len(said(lambda: simulator.simulate(kernels.kernel)(X))) == 2


def test_a_partial_call_lints_its_function(kernels):
    assert len(said(lambda: simulator.run(functools.partial(kernels.divided.function, value=1.0), X))) == 1


def test_a_kernel_that_breaks_nothing_is_silent(kernels):
    assert said(lambda: simulator.run(kernels.clean, X)) == []


def test_an_option_switches_it_off(kernels):
    assert said(lambda: simulator.run(kernels.kernel, X, options=Options(lint=False))) == []
    assert len(said(lambda: simulator.run(kernels.kernel, X))) == 2


def test_a_warning_can_be_an_error(kernels):
    with warnings.catch_warnings(), pytest.raises(LintWarning, match=r"^older-name: .*write range \[release-notes"):
        warnings.simplefilter("error")
        simulator.run(kernels.kernel, X)


def test_a_function_without_source_is_not_linted(kernels):
    names = {"nki": kernels.nki, "nl": kernels.nl, "nisa": kernels.nisa}
    exec(TEXT, names)
    assert said(lambda: simulator.run(names["kernel"], X)) == []


def test_what_has_no_code_is_not_linted():
    assert said(lambda: live.warn(len, "0.7")) == said(lambda: live.warn(functools.partial(len), "0.7")) == []


def test_a_function_is_found_by_the_line_it_begins_at():
    text = "def a():\n    def k():\n        pass\n    def k():\n        pass\n@b\n@c\ndef k():\n    pass\n"
    text += "class d:\n    k = lambda: 0\n"
    module = File("k.py", text).module
    found = [at_line(module, "k", line) for line in range(1, 12)]
    assert [unit and unit.node.lineno for unit in found] == [None, 2, None, 4, None, 8, *[None] * 5]


def test_a_file_that_has_changed_is_not_linted(kernels, tmp_path):
    (tmp_path / "kernels.py").write_text("def other(:\n")
    assert said(lambda: simulator.run(kernels.kernel, X)) == []


def test_a_kernel_inside_a_function_is_found():
    with simulated_nki():
        import nki.language as nl

    def kernel(x):
        nl.fmod(nl.load(x), nl.load(x))
        return x

    assert [name for *_, name in said(lambda: simulator.run(kernel, X))] == ["not-on-hardware"]
