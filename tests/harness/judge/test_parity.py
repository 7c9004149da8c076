"""How far two outputs are apart, as a share of what both tolerances allow."""

from types import SimpleNamespace

import numpy as np
import pytest

from triptych.harness.judge.parity import Pair, difference, matrices, of_outputs
from triptych.harness.judge.tolerance import Expected
from triptych.harness.results.measures import Derived, Fixed, Parity


def expected_of(reference, rel_l2=None, bound=0.5):
    reference = np.array(reference, np.float64)
    if rel_l2 is None:
        made = Fixed(source="op", regime="normal", rtol=0.0, atol=bound)
    else:
        made = Derived(
            source="default", regime="normal", factor=2.0, baseline="b", baselines=["b"], draws=1,
            max_abs=bound, rel_l2=rel_l2, floor=0.0,
        )  # fmt: skip
    return Expected(reference, reference.astype(np.float32), made)


A, B = np.array([3.0, 4.0], np.float32), np.array([3.0, 3.5], np.float32)


def test_the_largest_difference_is_held_against_both_tolerances():
    found = difference(A, B, expected_of([3.0, 4.0]))
    assert (found.share, found.max_abs, found.identical, found.strange) == (0.5, 0.5, 0.5, 0)


@pytest.mark.parametrize(("rel_l2", "share"), [(1.0, 0.5), (0.02, 2.5)])
def test_so_is_the_norm(rel_l2, share):
    assert difference(A, B, expected_of([3.0, 4.0], rel_l2)).share == pytest.approx(share)


def test_nothing_is_allowed_of_what_must_be_equal():
    exact = expected_of([3.0, 4.0], bound=0.0)
    assert difference(A, A, exact).share == 0.0 and difference(A, B, exact).share == np.inf
    for rel_l2 in (0.0, 0.5):
        none = expected_of([0.0, 0.0], rel_l2=rel_l2)
        assert difference(A, A, none).share == 0.0 and difference(A, B, none).share == np.inf


def test_a_nan_in_one_alone_is_infinitely_far():
    nan = np.array([np.nan, 4.0], np.float32)
    found = difference(nan, A, expected_of([3.0, 4.0]))
    assert (found.share, found.strange, found.max_abs) == (np.inf, 1, 0.0)
    assert difference(nan, nan, expected_of([3.0, 4.0])).share == 0.0


def parity(share, identical=0.0):
    return Parity(share=share, max_abs=0.0, identical=identical, strange=0)


def test_of_all_cases_the_worst_counts():
    pair = Pair()
    for name, found in (("a", parity(0.0, 1.0)), ("b", parity(0.3)), ("c", parity(0.2)), ("d", parity(0.3))):
        pair.add(found, name)
    assert (pair.cases, pair.equal, pair.share, pair.at) == (4, 1, 0.3, "b")
    pair.add(parity(float("nan")), "e")
    assert pair.at == "e", "what is no number is worse than any"


def test_of_several_outputs_the_one_furthest_apart_for_what_is_allowed_there():
    allowed = {"a": 1.0, "b": 0.25, "c": 0.25}
    case = SimpleNamespace(
        outputs={
            name: SimpleNamespace(expected=expected_of([3.0, 4.0], bound=bound)) for name, bound in allowed.items()
        }
    )
    one = {"a": A, "b": A, "c": A}
    found = of_outputs(one, {"a": B, "b": A + np.float32(0.25), "c": A}, case)
    assert (found.output, found.share) == ("b", 0.5)
    found = of_outputs(one, {"a": B - np.float32(1), "b": A + np.float32(0.25), "c": A}, case)
    assert (found.output, found.share) == ("a", 0.75)
    equal = of_outputs(one, {"a": A, "b": A, "c": np.array([3.0, -0.0], np.float32) + np.float32([0, 4])}, case)
    assert (equal.share, equal.output) == (0.0, "a")
    plus, minus = np.array([0.0, 4.0], np.float32), np.array([-0.0, 4.0], np.float32)
    bits = of_outputs({"a": A, "b": plus, "c": A}, {"a": A, "b": minus, "c": A}, case)
    assert (bits.share, bits.output, bits.identical) == (0.0, "b", 0.5), "of equal ones that with fewer bits in common"


def test_what_is_not_finite_in_the_reference_has_no_part_in_its_norm():
    found = difference(A, B, expected_of([np.inf, 4.0], 0.0625, bound=9.0))
    assert found.share == pytest.approx(0.5 / (2 * 0.0625 * 4))


def test_a_pair_of_backends_has_one_entry_whoever_is_named_first():
    def result(label, op, share, other):
        return SimpleNamespace(op=op, backend_label=label, parity={name: parity(share) for name in other})

    found = matrices(
        [
            result("numpy", "matmul", 0.0, []),
            result("sim", "matmul", 0.25, ["numpy"]),
            result("triton", "matmul", 0.5, ["numpy", "sim"]),
            result("sim", "matmul", 0.75, ["triton"]),
            result("sim", "softmax", 0.125, ["numpy"]),
        ]
    )
    assert list(found) == ["matmul", "softmax"]
    assert found["matmul"].places == ["numpy", "sim", "triton"] and found["softmax"].places == ["numpy", "sim"]
    one, same = found["matmul"].pair("sim", "triton"), found["matmul"].pair("triton", "sim")
    assert one is same and (one.cases, one.share, one.equal) == (2, 0.75, 0)
    assert found["softmax"].pair("sim", "triton") is None
