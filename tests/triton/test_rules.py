"""The interpreter computes what the compiler compiles: each rule on values, and in the TTIR of the same launch.

A rule's kernel gives one number where the rule holds and another where Python's own meaning does, so that an
interpreter without it fails. What the compiler does is read from what it makes for sm_90 out of the same launch.
"""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest
import triton
import triton.language as tl
from triton.language import exp as an_alias_of_exp
from triton.language import load as an_alias_of_load
from triton.language import sum as an_alias_of_sum

from triptych.harness.emulators import EmulationError, KernelRaised, interpret
from triptych.harness.emulators.compilation import built, launches_of

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated")  # `and` and `min` of blocks, by the compiler

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
N = 16
TENSORS = {"x": ((N,), BFLOAT16), "out": ((N,), BFLOAT16)}
a_store = tl.store
SCALE = tl.constexpr(0.1)


@triton.jit
def _scaled_by(x, factor):
    return x * factor


@triton.jit
def _kernel(x, out, s, n, yes, RULE: tl.constexpr, N: tl.constexpr, C: tl.constexpr):
    at = tl.arange(0, N)
    v = tl.load(x + at)
    r = v.to(tl.float32)
    if RULE == "argument":
        r = v * s
    elif RULE == "argument cast":
        r = v * s.to(tl.bfloat16)
    elif RULE == "literal":
        r = v * 0.1
    elif RULE == "named number":
        factor = 0.1
        r = v * factor
    elif RULE == "named constant":
        factor: tl.constexpr = 0.1
        r = v * factor
    elif RULE == "constexpr":
        r = v * C
    elif RULE == "global on the left":
        r = SCALE * v
    elif RULE == "through a function":
        r = _scaled_by(v, s)
    elif RULE == "literal through a function":
        r = _scaled_by(v, 0.1)
    elif RULE == "integer":
        r = v.to(tl.int8) + n
    elif RULE == "loop variable":
        r = tl.zeros((N,), tl.int32)
        for i in range(127, 128):
            r += v.to(tl.int8) + i
    elif RULE == "loop variable wraps":
        r = tl.zeros((N,), tl.int64)
        for i in range(70000, 70001):
            r += i * n
    elif RULE == "bool":
        r = tl.where(yes, v, v * 2)
    elif RULE == "and":
        r = tl.where(v > 4 and v < 8, 1.0, 0.0)
    elif RULE == "or":
        r = tl.where(v < 4 or v > 8, 1.0, 0.0)
    elif RULE == "not":
        r = tl.where(not (v > 4), 1.0, 0.0)
    elif RULE == "min, max":
        r = max(min(v, 8.0), 4.0)
    elif RULE == "augmented":
        factor = 0.1
        factor += 0
        r = v * factor
    elif RULE == "aliases":
        r = an_alias_of_exp(an_alias_of_load(x + at).to(tl.float32) * 0) * an_alias_of_sum(v, 0)
    a_store(out + at, r)


def launch(x, out, rule, n=3, yes=True):
    _kernel[(1,)](x, out, 0.1, n, yes, RULE=rule, N=N, C=0.1)


X = np.arange(N).astype(BFLOAT16)
WIDE = X.astype(np.float32)
IN_FLOAT32 = WIDE * np.float32(0.1)
IN_BFLOAT16 = (WIDE * np.float32(BFLOAT16.type(0.1))).astype(BFLOAT16).astype(np.float32)
F32, BF16 = r"arith\.mulf .*tensor<16xf32>", r"arith\.mulf .*tensor<16xbf16>"
RULES = {  # rule: (its output's values, what stands in the TTIR, what the launch is given)
    "argument": (IN_FLOAT32, F32, {}),
    "argument cast": (IN_BFLOAT16, BF16, {}),
    "literal": (IN_BFLOAT16, BF16, {}),
    "named number": (IN_FLOAT32, F32, {}),
    "named constant": (IN_BFLOAT16, BF16, {}),
    "constexpr": (IN_BFLOAT16, BF16, {}),
    "global on the left": (IN_BFLOAT16, BF16, {}),
    "through a function": (IN_FLOAT32, F32, {}),
    "literal through a function": (IN_BFLOAT16, BF16, {}),
    "augmented": (IN_FLOAT32, F32, {}),
    "integer": (WIDE + 127, r"arith\.addi .*tensor<16xi32>", {"n": 127}),
    "loop variable": (WIDE + 127, r"arith\.addi .*tensor<16xi32>", {}),
    "loop variable wraps": (np.full(N, 70000 * 70000 - 2**32), r"arith\.muli .*i32", {"n": 70000}),
    "bool": (WIDE * 2, r"%yes: i1", {"yes": False}),
    "and": ((WIDE > 4) & (WIDE < 8), r"arith\.andi .*tensor<16xi1>", {}),
    "or": ((WIDE < 4) | (WIDE > 8), r"arith\.ori .*tensor<16xi1>", {}),
    "not": (~(WIDE > 4), r"arith\.(cmpf|xori)", {}),
    "min, max": (np.clip(WIDE, 4, 8), r"arith\.min.*f(.|\n)*arith\.max.*f", {}),
    "aliases": (np.full(N, WIDE.sum()), r"tt\.reduce(.|\n)*tt\.store", {}),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_values_are_those_of_the_rule(rule):
    expected, _, given = RULES[rule]
    out = np.full(N, np.nan, np.float32)
    interpret(launch, {"x": X}, out, rule=rule, **given)
    assert np.array_equal(out, np.asarray(expected, np.float32))


@pytest.mark.parametrize("rule", RULES)
def test_the_compiler_follows_the_rule(rule):
    _, found, given = RULES[rule]
    (one,) = launches_of(launch, TENSORS, "sm_90", rule=rule, **given)
    assert re.search(found, built(one, "sm_90").asm["ttir"])


def test_the_rules_can_be_told_apart():
    assert not np.array_equal(IN_FLOAT32, IN_BFLOAT16)
    assert np.any(WIDE + 127 > 127)  # beyond int8
    assert 70000 * 70000 > 2**31


def test_an_argument_that_is_one_is_a_constant():
    """So that 127 + 1 wraps in int8, where 126 + 2 is of int32."""
    x, out = np.full(N, 127).astype(BFLOAT16), np.zeros(N, np.float32)
    interpret(launch, {"x": x}, out, rule="integer", n=1)
    assert np.all(out == -128)
    (one,) = launches_of(launch, TENSORS, "sm_90", rule="integer", n=1)
    text = built(one, "sm_90").asm["ttir"]
    assert re.search(r"arith\.addi .*tensor<16xi8>", text)


@triton.jit
def _branching(x, out, N: tl.constexpr):
    v = tl.load(x + tl.arange(0, N))
    if v > 4:
        tl.store(out + tl.arange(0, N), v)


def branching(x, out):
    _branching[(1,)](x, out, N=N)


def test_a_branch_on_a_block_is_an_error_as_for_the_compiler():
    with pytest.raises(KernelRaised, match=r"a block of shape \(16,\) is neither true nor false.*test_rules.py:\d+\)$"):
        interpret(branching, {"x": X}, np.zeros(N, BFLOAT16))
    (one,) = launches_of(branching, TENSORS, "sm_90")
    with pytest.raises(Exception, match="more than one value is ambiguous"):
        built(one, "sm_90")


@triton.jit
def _masked_scalar(x, out, n):
    i = tl.program_id(0)
    tl.store(out + i, tl.load(x + i, mask=i < n, other=-1.0), mask=i < n + 1)


def masked_scalar(x, out, n):
    _masked_scalar[(n + 4,)](x, out, n)


def test_a_scalar_mask_that_is_off_is_a_mask():
    out = np.full(N + 1, 7, BFLOAT16)
    interpret(masked_scalar, {"x": X}, out, n=N)
    assert out.astype(float).tolist() == [*range(N), -1]


@triton.jit
def _asserting(x, out, N: tl.constexpr):
    v = tl.load(x + tl.arange(0, N))
    assert v < 8, "too large"
    tl.store(out + tl.arange(0, N), v)


def asserting(x, out):
    _asserting[(1,)](x, out, N=N)


def test_an_assertion_is_of_every_element():
    interpret(asserting, {"x": np.zeros(N, BFLOAT16)}, np.zeros(N, BFLOAT16))
    with pytest.raises(KernelRaised, match="AssertionError: too large"):
        interpret(asserting, {"x": X}, np.zeros(N, BFLOAT16))


@triton.jit
def _retyping(x, out, n, WAY: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, N)
    v = tl.load(x + at)
    count = 0
    if WAY == "if":
        if n > 2:
            v = v.to(tl.float32)
    elif WAY == "else":
        if n > 5:
            v += 1
        else:
            v = v.to(tl.float32)
    elif WAY == "for":
        for _ in range(n):
            v = v * tl.full((N,), 1, tl.float32)
    elif WAY == "while":
        while count < n:
            count += tl.cast(1, tl.int64)
    elif WAY == "kept":
        if n > 2:
            v = (v.to(tl.float32) + 1).to(v.dtype)
        for _ in range(n):
            v = (v * tl.full((N,), 1, tl.float32)).to(v.dtype)
    elif WAY == "decided by the compiler":
        if N > 2:
            v = v.to(tl.float32) + 1
        for _ in tl.static_range(2):
            v = v.to(tl.float32)
    tl.store(out + at, v)


def retyping(x, out, way):
    _retyping[(1,)](x, out, 3, WAY=way, N=N)


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("if", "`v` is bf16 before the if and fp32 behind it"),
        ("else", "`v` is bf16 before the if and fp32 behind it"),
        ("for", "`v` is bf16 before the loop and fp32 behind it"),
        ("while", "`count` is int32 before the loop and int64 behind it"),
    ],
)
def test_a_name_that_changes_its_type_is_refused_as_by_the_compiler(way, says):
    with pytest.raises(KernelRaised, match=rf"{says}, which the compiler refuses.*test_rules.py:\d+\)$"):
        interpret(retyping, {"x": X}, np.zeros(N, BFLOAT16), way=way)
    (one,) = launches_of(retyping, TENSORS, "sm_90", way=way)
    with pytest.raises(EmulationError, match="does not compile"):
        built(one, "sm_90")


@pytest.mark.parametrize("way", ["kept", "decided by the compiler"])
def test_a_name_that_keeps_its_type_is_taken_as_by_the_compiler(way):
    out = np.zeros(N, BFLOAT16)
    interpret(retyping, {"x": X}, out, way=way)
    assert np.array_equal(out.astype(np.float32), WIDE + 1)
    (one,) = launches_of(retyping, TENSORS, "sm_90", way=way)
    assert built(one, "sm_90").asm["ttir"]
