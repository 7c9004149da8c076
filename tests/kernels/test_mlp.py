"""The NKI gated MLP in decode: how DMA reads the weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from triptych import simulator

KERNEL = simulator.load(Path(__file__).parents[2] / "kernels" / "nki" / "mlp.py").gated_mlp


@pytest.mark.parametrize(("tokens", "panel"), [(1, 1792), (64, 1792), (100, 1280)])
def test_each_weight_is_read_once_in_runs_as_long_as_psum_allows(tokens: int, panel: int) -> None:
    k, f, n = 512, 1792, 4096
    shapes = ((tokens, k), (k, f), (k, f), (f, n))
    predicted = simulator.on("trn2").predict(KERNEL, *(simulator.ShapeDtype(shape, "bfloat16") for shape in shapes))
    weights = [e.writes[0] for e in predicted.events if e.op == "dma_copy" and e.writes[0].allocation.buffer == "sbuf"]
    assert sum(region.nbytes for region in weights) == 2 * (2 * k * f + f * n)
    assert {region.shape[-1] for region in weights} == {panel, f % panel, 7 * 512, 512} - {0}
    assert weights[-1].shape == (128, 2, 512)  # few products and one bank's copy are left behind the last byte
