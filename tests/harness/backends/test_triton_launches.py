"""A result says which kernels ran, and in which configuration."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("triton")

import triton
import triton.language as tl
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction

from triptych.harness.backends.triton_launches import launches
from triptych.harness.emulators import interpret
from triptych.harness.emulators.running import Session


@triton.jit
def plain(x, out, BLOCK: tl.constexpr, SHIFT: tl.constexpr = 1):
    at = tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at) + SHIFT)


tuned = triton.autotune([triton.Config({"BLOCK": 16}, num_warps=w) for w in (1, 2, 4)], key=[])(plain)
PLAIN = "plain BLOCK=16 SHIFT=1 num_warps=8"


def launch(x, out, by="plain"):
    for _ in range(2):
        if by == "plain":
            plain[(1,)](x, out, 16, num_warps=8)
        else:
            tuned[(1,)](x, out)


@pytest.mark.parametrize(("by", "said"), [("plain", PLAIN), ("tuned", "plain BLOCK=16 SHIFT=1 num_warps=1")])
def test_what_is_interpreted_is_noted_once(by, said):
    x, out = np.arange(16, dtype=np.float32), np.zeros(16, np.float32)
    with launches(Session) as found:
        interpret(launch, {"x": x}, out, by=by)
    assert found[0].startswith(said) and len(found) == 1 and np.array_equal(out, x + 1)


@pytest.mark.parametrize(("by", "said"), [("plain", PLAIN), ("tuned", "plain BLOCK=16 SHIFT=1 num_warps=4")])
def test_of_what_an_autotuner_tries_on_a_gpu_what_it_took_is_noted(by, said, monkeypatch):
    """A GPU's launches, with nothing behind them."""
    made = []

    def run(self, *args, grid, warmup, **named):
        made.append(named)

    def tune(self, *args, **named):
        for config in self.configs:
            self.fn.run(*args, grid=named["grid"], warmup=False, **config.all_kwargs())
        self.best_config = self.configs[-1]

    monkeypatch.setattr(JITFunction, "run", run)
    monkeypatch.setattr(Autotuner, "run", tune)
    with launches() as found:
        launch(None, None, by)
    assert found[0].startswith(said) and len(found) == 1 and len(made) == (2 if by == "plain" else 6)
    assert JITFunction.run is run and Autotuner.run is tune
