"""A block out of simulated kernels: it agrees with its definition, and a kernel that is called wrongly does not."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from triptych.harness.blocks import callers, page, study
from triptych.harness.collection import llama
from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode

MODEL = llama.Llama("small", hidden=96, heads=4, kv_heads=2, head_dim=32, ffn=200, tokens=1)
SIZES = study.Sizes(
    compared=70, compared_sequences=2, compared_cache=40, tokens=130, sequences=2, cached=100, cache=128
)


@pytest.fixture(scope="module")
def phases():
    return study.study(MODEL, "trn2", SIZES, 0, lambda line: None)


def test_every_result_agrees_and_every_kernel_is_predicted(phases):
    prefill, decode, training = phases
    assert [one.name for one in prefill.agreements] == ["out"]
    assert [one.name for one in decode.agreements] == ["out", "k_cache", "v_cache"]
    assert {one.name for one in training.agreements} == {
        "out", "x", "gain1", "wqkv", "wo", "gain2", "wg", "wu", "wd"
    }  # fmt: skip
    assert all(one.holds for phase in phases for one in phase.agreements)
    assert {call.name for phase in phases for call in phase.calls} == set(callers.PARTS)
    assert prefill.tokens == training.tokens == 130 and decode.tokens == 2


def test_times_add_up(phases):
    for phase in phases:
        assert phase.core_us == pytest.approx(16.43 + sum(call.us for call in phase.calls))
        assert phase.core_us <= phase.chip_us
        assert phase.chip_rate == pytest.approx(8 * phase.tokens / phase.chip_us * 1e6)
        assert phase.core_rate == pytest.approx(phase.tokens / phase.core_us * 1e6)


def test_cores_that_need_more_than_hbm_has_wait_for_it(phases):
    chip = phases[0].chip
    share = chip.hbm_gb_per_s.value / chip.hbm_cores.value
    greedy = callers.Timed("copy", us=1.0, flops=0, hbm_bytes=int(2 * share * 1e3))
    phase = study.Phase("prefill", "", 1, (), (greedy,), chip)
    assert phase.core_us == pytest.approx(17.43) and phase.chip_us == pytest.approx(18.43, rel=1e-4)


def test_the_page_says_what_differs_and_what_was_assumed(phases):
    text = page.text(MODEL, "trn2", phases)
    assert "DIFFERS" not in text and "one program, whose launch and teardown are charged once" in text
    assert "one sequence of 130 tokens" in text and "attention_backward" in text
    wrong = study.Phase("prefill", "", 1, (study.Agreement("out", float("nan"), 1.0),), phases[0].calls, phases[0].chip)
    assert "DIFFERS" in page.text(MODEL, "trn2", [wrong])


def test_a_kernel_that_is_called_wrongly_differs(monkeypatch):
    plain = callers.Simulated.__call__

    def swapped(self, name, *arguments, **params):
        if name == "rope":
            x, cos, sin = arguments
            arguments = (x, sin, cos)
        return plain(self, name, *arguments, **params)

    monkeypatch.setattr(callers.Simulated, "__call__", swapped)
    weights = study.drawn_weights(MODEL, 0)
    (out,) = study.compare("prefill", MODEL, weights, "trn2", SIZES, 0)
    assert not out.holds and np.isfinite(out.error)


def test_the_command_prints_the_page(monkeypatch, capsys):
    monkeypatch.setattr(llama, "MODELS", (MODEL,))
    monkeypatch.setattr(study, "Sizes", partial(lambda sizes: sizes, SIZES))
    assert cli.main(["run", "llama-block", "--target", "trn2", "--quiet"]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert out.startswith("llama-block on trn2 (NeuronCore-v3), bfloat16: small") and err == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["llama-block", "matmul"], "llama-block runs by itself; got llama-block, matmul"),
        (["llama-block", "--dtype", "float32"], "takes --target, --seed and --quiet alone"),
        (["llama-block", "--json", "x.json"], "takes --target, --seed and --quiet alone"),
        (["llama-block", "--target", "trn9"], "unknown target 'trn9'"),
    ],
)
def test_usage(arguments, said, capsys):
    assert cli.main(["run", *arguments]) == ExitCode.USAGE
    assert said in capsys.readouterr().err
