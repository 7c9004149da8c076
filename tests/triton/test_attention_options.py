"""What a score may go through before the softmax, against the definition; and which tiles of keys are visited."""

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.emulators import KernelRaised, interpret
from triptych.harness.emulators.correction import CorrectedBuilder
from triptych.kernels.triton.attention import attention
from triptych.reference.attention import attention as reference

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT32 = np.dtype(np.float32)


def inputs(B, H, Hkv, Sq, Sk, D, dtype=FLOAT32):
    rng = np.random.default_rng(0)
    shapes = {"q": (B, H, Sq, D), "k": (B, Hkv, Sk, D), "v": (B, Hkv, Sk, D)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def agree(out, expected, tolerance=2e-5):
    """Equal within the tolerance where both are finite, and of one kind elsewhere."""
    assert np.array_equal(np.isnan(out), np.isnan(expected))
    assert np.allclose(out, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.fixture
def products(monkeypatch):
    """A list that grows by one with every `tl.dot` that is interpreted."""
    made, dot = [], CorrectedBuilder.create_dot

    def counted(self, a, b, *rest):
        made.append((a.data.shape, b.data.shape))
        return dot(self, a, b, *rest)

    monkeypatch.setattr(CorrectedBuilder, "create_dot", counted)
    return made


def tiles_visited(products, arrays, **options):
    """How many pairs of tiles, 128 queries x 64 keys, a call visits: each makes two products."""
    products.clear()
    interpret(attention, arrays, np.empty_like(arrays["q"]), causal=True, **options)
    return len(products) / 2


def test_a_window_visits_the_tiles_that_it_reaches(products):
    """Rows [128 n, 128 (n + 1)) see 128 + 63 keys, three tiles of 64; all tiles below the diagonal are 2 n + 2."""
    arrays = inputs(1, 1, 1, 512, 512, 16, BFLOAT16)
    assert tiles_visited(products, arrays) == 2 + 4 + 6 + 8
    assert tiles_visited(products, arrays, window=512) == 2 + 4 + 6 + 8
    assert tiles_visited(products, arrays, window=64) == 2 + 3 + 3 + 3
    assert tiles_visited(products, arrays, window=1) == 4 * 2


def test_segments_visit_the_tiles_between_their_first_and_last_key(products):
    arrays = inputs(1, 1, 1, 512, 512, 16, BFLOAT16)
    one, four = np.zeros((1, 512), np.int32), (np.arange(512, dtype=np.int32) // 128)[None]
    assert tiles_visited(products, arrays | {"segments": one}) == 2 + 4 + 6 + 8
    assert tiles_visited(products, arrays | {"segments": four}) == 4 * 2
    assert tiles_visited(products, arrays | {"segments": four}, window=64) == 4 * 2
    assert tiles_visited(products, arrays | {"segments": four % 2}) == 2 + 2 + 6 + 6  # again two segments behind


@pytest.mark.parametrize("causal", [True, False])
def test_segments_in_any_order_and_of_any_number(run, causal):
    arrays = inputs(2, 2, 1, 150, 150, 16)
    drawn = np.random.default_rng(1).integers(-5, 5, (2, 150)).astype(np.int32) * 2**27
    drawn[1] = 7  # of one, so that no tile is masked but on the diagonal
    out = run(attention, arrays | {"segments": drawn}, np.empty_like(arrays["q"]), causal=causal)
    agree(out, reference(**arrays, segments=drawn, causal=causal))


@pytest.mark.parametrize("heads", [(1, 4), (2, 1)], ids=str)
def test_all_options_at_once(run, heads):
    arrays = inputs(2, 4, 2, 70, 70, 24)
    rng = np.random.default_rng(2)
    added = rng.standard_normal((*heads, 70, 70)).astype(np.float32)
    added[rng.random(added.shape) < 0.3] = -np.inf
    arrays |= {"mask": added, "sinks": rng.standard_normal(4).astype(np.float32)}
    arrays["segments"] = np.sort(rng.integers(0, 4, (2, 70)), axis=1).astype(np.int32)
    options = {"causal": True, "window": 30, "softcap": 2.0}
    agree(run(attention, arrays, np.empty_like(arrays["q"]), **options), reference(**arrays, **options))


HIDING = {
    "causal": lambda: {"causal": True},
    "window": lambda: {"causal": True, "window": 8},
    "segments": lambda: {"segments": (np.arange(30, dtype=np.int32) // 11)[None]},
    "mask": lambda: {"mask": np.where(np.arange(30)[:, None] % 7 == np.arange(30) % 7, 0, -np.inf)[None, None]},
}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("hiding", HIDING)
def test_an_infinite_value_reaches_the_rows_that_see_it(run, hiding, bad):
    """Where it is hidden its weight is 0, and 0 * inf would be NaN."""
    arrays = inputs(1, 1, 1, 30, 30, 16, BFLOAT16)
    arrays["v"][0, 0, 12, 3], arrays["v"][0, 0, 14, 4] = bad, -np.inf
    options = HIDING[hiding]()
    given = {name: options[name] for name in ("segments", "mask") if name in options}
    given = {name: x.astype(BFLOAT16) if name == "mask" else x for name, x in given.items()}
    params = {name: x for name, x in options.items() if name not in given}
    out = run(attention, arrays | given, np.empty_like(arrays["q"]), **params)
    expected = reference(**arrays, **options)
    assert not np.isfinite(expected).all() and np.isfinite(expected[..., :3]).all()
    agree(out, expected, 2e-2)


def with_lse(q, k, v, out, **options):
    """The logarithm as the output that a test looks at."""
    attention(q, k, v, out=q.new_empty(tuple(q.shape)), lse=out, with_lse=True, **options)


def test_the_logarithm_of_a_row_without_keys_and_of_one_of_minus_infinities(run):
    arrays = inputs(1, 2, 1, 40, 30, 16)
    lse = run(with_lse, arrays, np.empty((1, 2, 40), np.float32), causal=True)
    agree(lse, reference(**arrays, causal=True, with_lse=True)[1])
    assert np.all(np.isneginf(lse[..., :10]))
    sinks = np.array([0.5, -1], np.float32)
    lse = run(with_lse, arrays | {"sinks": sinks}, np.empty((1, 2, 40), np.float32), causal=True)
    agree(lse, reference(**arrays, causal=True, sinks=sinks, with_lse=True)[1])
    assert np.allclose(lse[..., :10], sinks[None, :, None])
    arrays["q"], arrays["k"][..., 0] = np.abs(arrays["q"]), -np.inf
    assert np.all(np.isnan(run(with_lse, arrays, np.empty((1, 2, 40), np.float32))))


@pytest.mark.parametrize(
    ("extra", "options", "says"),
    [
        ({}, {"window": 3}, "a window of one or more keys goes with causal, got 3"),
        ({}, {"window": 0, "causal": True}, "a window of one or more keys goes with causal, got 0"),
        ({}, {"with_lse": True}, r"with_lse needs memory for it: lse\[B, H, Sq\]"),
        ({"sinks": (3,)}, {}, r"attention takes sinks\[H\] beside .*, got \(3,\)"),
        ({"mask": (1, 2, 5, 7)}, {}, r"attention takes mask\[B or 1, H or 1, Sq, Sk\] beside .*, got \(1, 2, 5, 7\)"),
        ({"segments": (1, 6)}, {}, r"attention takes segments\[B, S\], for as many queries as keys, beside"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused(extra, options, says):
    arrays = inputs(1, 2, 1, 5, 6, 16) | {name: np.zeros(shape, np.float32) for name, shape in extra.items()}
    with pytest.raises(KernelRaised, match=says):
        interpret(attention, arrays, np.empty_like(arrays["q"]), **options)
