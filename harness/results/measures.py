"""How far off an output is, how far off is too far, and how far two backends are apart."""

from __future__ import annotations

import msgspec

from triptych.harness.results.record import Record


class SensitivityReport(Record, frozen=True, kw_only=True):
    """The wrong outputs that the tolerance was tried on, by what came of them."""

    caught: list[str]
    without_effect: list[str]  # they change the result by no more than rounding does
    accepted: list[str]


class Derived(Record, frozen=True, kw_only=True, tag_field="rule", tag="derived"):
    """A tolerance from the error of honest baselines: `max_abs`, `rel_l2` and `max_local` must all hold."""

    source: str  # who asked for the factor: "default", "op", "environment" or "command line"
    regime: str
    factor: float
    baseline: str  # the one with the largest error
    baselines: list[str]
    draws: int
    max_abs: float
    rel_l2: float
    floor: float  # one unit in the last place of the largest element
    max_local: float | None = None  # none for cases too large for local units
    bias: float | None = None  # of dtypes of 16 bits and less; see `judge.yardstick.bias`
    not_nearest: float | None = None
    sensitivity: SensitivityReport | None = msgspec.field(default=None, name="teeth")


class Fixed(Record, frozen=True, kw_only=True, tag_field="rule", tag="fixed"):
    """|out - reference| <= atol + rtol |reference|, as somebody asked for, or as the dtype has it."""

    source: str  # "dtype", "op", "environment" or "command line"
    regime: str
    rtol: float
    atol: float
    bias: float | None = None  # of integers that may differ
    sensitivity: SensitivityReport | None = msgspec.field(default=None, name="teeth")

    @property
    def exact(self) -> bool:
        """Whether no difference is allowed."""
        return self.rtol == self.atol == 0


Tolerance = Derived | Fixed


class Kinds(Record, frozen=True, kw_only=True):
    """How many elements are no number."""

    nan: int
    inf: int
    minus_inf: int = msgspec.field(name="-inf")


class Nonfinite(Record, frozen=True, kw_only=True):
    """How many NaNs and infinities there are and should be, and where one is amiss."""

    expected: Kinds
    got: Kinds
    misplaced: int
    at: list[list[int]]  # the first of them


class Metrics(Record, frozen=True, kw_only=True):
    """The numbers of a comparison; they count the elements that are finite on both sides."""

    max_abs: float
    max_rel: float
    rel_l2: float  # |out - reference| / |reference|, of the whole output
    cosine: float
    max_abs_ulp: float  # max_abs in units in the last place of the largest element
    max_ulp: int  # representable numbers between an element and its reference
    max_local: float | None = None  # max_abs of each element in its own unit
    bias: float | None = None  # what the errors have in common, in units in the last place, beyond chance
    not_nearest: float | None = None  # share of elements that are not the reference rounded to nearest, beyond chance
    worst_index: list[int]
    expected: int | float  # at the worst index
    got: int | float
    mismatches: int
    nonfinite: Nonfinite


class Parity(Record, frozen=True, kw_only=True):
    """How far two backends are from each other in one case."""

    share: float  # of what both tolerances allow together
    max_abs: float
    identical: float  # share of elements with the same bits
    strange: int  # elements of which one alone is NaN or infinite
    output: str = ""  # of several, the one in which they are furthest apart


class OneOutput(Record, frozen=True, kw_only=True):
    """What came of one output of an op that has several."""

    passed: bool
    metrics: Metrics | None = None  # none of what could not be compared
    tolerance: Tolerance | None = None
