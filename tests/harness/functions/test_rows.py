"""Rows of the collection as functions on arrays: what they must give back, and which row serves a call."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from triptych.harness.functions import rows
from triptych.harness.functions.choices import attention_row
from triptych.harness.functions.places import NoKernel, Place
from triptych.harness.functions.rows import Meant, Work

X, GAIN = np.ones((2, 3), np.float32), np.ones(3, np.float32)
WORK = Work("rmsnorm", {"x": X, "gain": GAIN}, {}, {"out": Meant((2, 3), X.dtype)})


@pytest.mark.parametrize("place", [Place("numpy"), Place("nki-sim", "trn2")])
def test_a_result_of_another_shape_or_dtype_is_an_error(place: Place) -> None:
    (out,) = rows.compute(WORK, place)
    np.testing.assert_allclose(out, 1, rtol=1e-4)
    with pytest.raises(RuntimeError, match=r"^rmsnorm gave out as \(2, 3\) float32 on .* and \(3, 2\) float32 was exp"):
        rows.compute(replace(WORK, outputs={"out": Meant((3, 2), X.dtype)}), place)


def test_what_an_installed_nki_would_run_is_asked_of_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows.on_device("rmsnorm").__name__ == "rmsnorm"
    monkeypatch.setitem(rows.rows(), "rmsnorm", replace(rows.rows()["rmsnorm"], nki=None))
    with pytest.raises(NoKernel, match="^rmsnorm has no NKI kernel, and its arrays are on a Neuron device"):
        rows.on_device("rmsnorm")
    assert rows.without_kernel(["rmsnorm", "rope"], Place("nki-sim")) == ["rmsnorm"]
    assert rows.without_kernel(["rmsnorm", "rope"], Place("numpy")) == []


def test_an_attention_is_served_by_the_row_that_knows_what_it_asks() -> None:
    assert attention_row(["q", "k", "v", "causal"]) == "attention"
    assert attention_row(["q", "mask"]) == "attention_mask" and attention_row(["mask", "window"]) == "attention_window"


def test_what_a_kernel_refuses_is_known_from_shapes() -> None:
    place = Place("nki-sim", "trn2")
    heads = np.ones((1, 1, 2, 300), np.float32)
    work = Work("attention", dict.fromkeys("qkv", heads), {}, {"out": Meant(heads.shape, heads.dtype)})
    with pytest.raises(NoKernel, match="^attention: the head dimension is at most 256, got 300"):
        rows.check_refusal(work, place)
    rows.check_refusal(work, Place("numpy"))
    small = replace(work, arrays=dict.fromkeys("qkv", heads[..., :4]))
    rows.check_refusal(small, place)  # which looks at numbers later on
    with pytest.raises(NoKernel, match="^rmsnorm: .*float64, which is not a dtype of NKI"):
        rows.check_refusal(replace(WORK, arrays={"x": X.astype(np.float64), "gain": GAIN}), place)
