"""What is measured: every op with a Triton panel at its models' sizes, square products, and attention by its length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from triptych.harness.ops.case import Case
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.op import Op

SQUARES, LENGTHS = (8192, 4096), (8192, 4096, 16384)
BACKWARD_LENGTHS = (8192, 4096, 2048)
TELLING = "llama-3.1-8b"  # the model whose sizes come first
SAME_PRODUCT = ("matmul_tiled", "matmul_mk")  # whose kernels say little that `matmul` does not: last


def points(ops: Mapping[str, Op]) -> list[Case]:
    """The cases in the order in which they are measured, the most telling first; each once."""
    with_triton = [op for op in ops.values() if op.triton is not None]
    long, short = (
        [case for op in with_triton if name in op.case_sets for case in cases_of(op, [name], None, {}, 0)]
        for name in ("model-long", "model")
    )
    told = {case.op for case in long if TELLING in case.name}
    telling = [case for case in long if TELLING in case.name or case.op not in told]
    ordered = [
        *squares(("bfloat16",)),
        *attentions("attention", LENGTHS, (True,), ("bfloat16",)),
        *attentions("attention_hopper", LENGTHS, (True,), ("bfloat16",)),
        *attentions("attention_backward", BACKWARD_LENGTHS, (True,), ("bfloat16",)),
        *telling,
        *attentions("attention", LENGTHS, (False,), ("bfloat16",)),
        *attentions("attention_hopper", LENGTHS, (False,), ("bfloat16",)),
        *attentions("attention_backward", BACKWARD_LENGTHS, (False,), ("bfloat16",)),
        *squares(("float16", "float32")),
        *attentions("attention", LENGTHS, (True, False), ("float16",)),
        *long,
        *short,
    ]
    ordered.sort(key=lambda case: case.op in SAME_PRODUCT)
    return list({(case.op, case.name, case.dtype): case for case in ordered if case.op in ops}.values())


def squares(dtypes: Sequence[str]) -> Iterator[Case]:
    """Products n x n x n."""
    for dtype in dtypes:
        for n in SQUARES:
            yield Case("matmul", f"{n}x{n}x{n}", {"M": n, "K": n, "N": n}, dtype)


def attentions(op: str, lengths: Sequence[int], causal: Sequence[bool], dtypes: Sequence[str]) -> Iterator[Case]:
    """16384 tokens in sequences of each length, 16 heads of 128."""
    for dtype in dtypes:
        for is_causal in causal:
            for s in lengths:
                axes = {"B": max(16384 // s, 1), "H": 16, "Hkv": 16, "Sq": s, "Sk": s, "D": 128}
                name = f"b{axes['B']}-h16-s{s}-d128" + "-causal" * is_causal
                yield Case(op, name, axes, dtype, {"causal": is_causal})


def checks(ops: Mapping[str, Op]) -> list[Case]:
    """What is checked before anything is timed: the first case of each op in each of its dtypes, and one hard one."""
    found = []
    for op in ops.values():
        if op.triton is None:
            continue
        sets = [name for name in ("smoke", "adversarial-short") if name in op.case_sets]
        for name in sets:
            cases = cases_of(op, [name], None, {}, 0)
            first = {case.dtype: case for case in reversed(cases)}
            found += list(first.values()) if name == "smoke" else list(first.values())[-1:]
    return list({(case.op, case.name, case.dtype): case for case in found}.values())
