"""Pieces of a case, each a smaller case of its own, on which NumPy's float64 reference takes seconds at most.

A piece is some rows of the output at its start, inside and at its end, with what of the inputs these rows need; of a
product also some columns. What no piece holds is judged at smaller sizes only, and the row says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.upkeep.figures.bench_gpu.drawn import Inputs

ROWS = 64  # of a piece
FEW_ROWS = 4  # new tokens over a cache, for each of which the judge takes long
FEWEST_ROWS = 2  # of an op that gives a number or two for each: the judge draws many more of them
COLUMNS = 2048  # of a piece of a product
KEYS = 128  # of a piece of dk and dv
SMALL_FLOPS, SMALL_NUMBERS = 2**28, 2**18  # up to which a case is judged as it is
WHOLE_FLOPS, WHOLE_NUMBERS = 2**32, 2**23  # up to which one that cannot be cut is
MOST_NUMBERS = 2**28  # of the inputs of a piece
Tensors = Mapping[str, Any]
Dimensions = Mapping[str, Sequence[str | int]]  # the axes of each tensor

# Whose output's columns are as independent of each other as its rows.
PRODUCTS = (
    *("matmul", "matmul_tiled", "matmul_mk", "matmul_batched", "matmul_fp8", "matmul_mx"),
    *("linear", "linear_transposed", "rmsnorm_linear"),
)
FLOAT8_SHAPES: Dimensions = {"lhsT": ("K", "M"), "rhs": ("K", "N"), "lhs_scale": ("M",), "rhs_scale": ("N",)}


@dataclass(frozen=True)
class Part:
    """A smaller case, its inputs, and how those of its outputs that it judges are cut out of those of the whole."""

    case: Case
    inputs: dict[str, Any]
    cut: Callable[[Tensors], dict[str, Any]]


def parts(op: Op, case: Case, inputs: Inputs) -> list[Part]:
    """The pieces of a case; none where it is too large and cannot be cut."""
    case = replace(case, params={**case.params, **inputs.constants})
    found = inputs.tensors
    pieces: Iterator[Part] = iter(())
    if "segments" in found:
        pieces = of_segments(case, found)
    elif "dout" in found and {"q", "k", "v"} <= found.keys():
        pieces = of_gradients(case, found)
    elif {"q", "k", "v"} <= found.keys():
        pieces = of_queries(case, found, ("", "out", "lse"))
    elif {"q", "k_cache", "lengths"} <= found.keys():
        pieces = of_caches(case, found)
    elif is_within(SMALL_FLOPS, SMALL_NUMBERS, op, case, found):
        pieces = iter([Part(case, dict(found), dict)])
    elif op.alone is not None and op.alone.axis in ("M", "S") or "M" in op.axes:
        pieces = of_rows(op, case, found, "M" if "M" in op.axes else "S")
    elif is_within(WHOLE_FLOPS, WHOLE_NUMBERS, op, case, found):
        pieces = iter([Part(case, dict(found), dict)])
    return [part for part in pieces if numbers(part.inputs) <= MOST_NUMBERS]


def numbers(tensors: Tensors) -> int:
    return sum(x.numel() for x in tensors.values())


def is_within(flops: int, most: int, op: Op, case: Case, found: Tensors) -> bool:
    work = op.flops(case.axes, case.params) if op.flops else 0
    return work <= flops and numbers(found) <= most


def blocks(size: int, most: int) -> list[tuple[int, int]]:
    """[start, end) of at most `most` at the start, inside and at the end.

    Odd sizes have odd pieces: some ops leave inputs out of such.
    """
    most -= (most - size) % 2
    inside = (size // 2) // most * most + 1 if size > 2 * most else 0
    return [(start, min(start + most, size)) for start in (0, inside, max(size - most, 0))]


def of_rows(op: Op, case: Case, found: Tensors, axis: str) -> Iterator[Part]:
    """Rows of an op whose rows are independent of each other, and columns of a product; of a batch, the last one."""
    dimensions = input_axes(op)
    outputs = {name: axes for name, axes in output_axes(op).items() if axis in axes}
    rows = FEWEST_ROWS if all(len(axes) == 1 for axes in outputs.values()) else ROWS
    columns = blocks(case.axes["N"], COLUMNS) if op.name in PRODUCTS else [None] * 3
    for (start, end), of_columns in dict.fromkeys(zip(blocks(case.axes[axis], rows), columns, strict=True)):
        ranges = {axis: (start, end)}
        if of_columns is not None:
            ranges["N"] = of_columns
        if "B" in case.axes:
            ranges["B"] = case.axes["B"] - 1, case.axes["B"]
        yield cut_out(case, found, ranges, dimensions, outputs)


def cut_out(
    case: Case, found: Tensors, ranges: Mapping[str, tuple[int, int]], inputs: Dimensions, outputs: Dimensions
) -> Part:
    """The ranges of some axes, of all that runs along them."""

    def cut(x: Any, axes: Sequence[str | int]) -> Any:
        for i, axis in enumerate(axes):
            if axis in ranges and x.shape[i] > 1:
                start, end = ranges[str(axis)]
                x = x.narrow(i, start, end - start)
        return x

    axes = {**case.axes, **{axis: end - start for axis, (start, end) in ranges.items()}}
    return Part(
        replace(case, axes=axes),
        {name: cut(x, inputs[name]) for name, x in found.items()},
        lambda outs: {name: cut(outs[name], dims) for name, dims in outputs.items()},
    )


def input_axes(op: Op) -> Dimensions:
    if op.shapes is not None:
        return op.shapes
    if op.alone is not None:  # which names the one axis that matters
        return {name: ["" if i != at else op.alone.axis for i in range(at + 1)] for name, at in op.alone.inputs.items()}
    return FLOAT8_SHAPES


def output_axes(op: Op) -> Dimensions:
    """The axes of each output that is no changed input, by its name."""
    if not op.outputs:
        return {"": op.out}
    return {name: kind.axes for name, kind in op.outputs.items() if name not in op.mutates}


def heads_of(case: Case) -> list[tuple[int, int]]:
    """A query head at the start, inside and at the end, and the key head that it reads."""
    heads, group = case.axes["H"], case.axes["H"] // case.axes["Hkv"]
    return [(head, head // group) for head in (0, (heads - 1) // 2, heads - 1)]


def of_one_head(case: Case, found: Tensors, head: int, key_head: int, queries: slice, keys: slice) -> dict[str, Any]:
    """The inputs of an attention for one head of the last sequence, some queries and keys."""
    b = slice(case.axes["B"] - 1, None)
    part = {name: x[b, head : head + 1, queries] for name, x in found.items() if name in ("q", "out", "dout", "lse")}
    part |= {name: found[name][b, key_head : key_head + 1, keys] for name in ("k", "v")}
    if "sinks" in found:
        part["sinks"] = found["sinks"][head : head + 1]
    if "mask" in found:
        m = found["mask"]
        part["mask"] = m[min(b.start, len(m) - 1) :, min(head, m.shape[1] - 1), queries, keys][:, None]
    return {name: part[name] for name in found if name in part}


def sized(case: Case, queries: int, keys: int, heads: int = 1) -> Case:
    axes = {"B": 1, "H": heads, "Hkv": 1, "Sq": queries, "Sk": keys, "D": case.axes["D"]}
    return replace(case, axes=axes)


def of_queries(case: Case, found: Tensors, outputs: Sequence[str]) -> Iterator[Part]:
    """Rows of an attention. Causal rows [a, b) see keys [0, b + Sk - Sq): the same op, aligned at the same corner."""
    queries, keys = case.axes["Sq"], case.axes["Sk"]
    for (start, end), (head, key_head) in dict.fromkeys(zip(blocks(queries, ROWS), heads_of(case), strict=True)):
        seen = end + keys - queries if case.params.get("causal") else keys
        if seen <= 0:
            continue
        rows = slice(start, end)
        part = of_one_head(case, found, head, key_head, rows, slice(0, seen))

        def cut(outs: Tensors, head: int = head, rows: slice = rows) -> dict[str, Any]:
            return {name: outs[name][-1:, head : head + 1, rows] for name in outputs if name in outs}

        yield Part(sized(case, end - start, seen), part, cut)


def of_segments(case: Case, found: Tensors) -> Iterator[Part]:
    """Packed sequences: from the beginning of one to some row behind it."""
    of_last = found["segments"][-1]
    for (start, end), (head, key_head) in dict.fromkeys(zip(blocks(case.axes["S"], ROWS), heads_of(case), strict=True)):
        begin = int((of_last < of_last[start]).sum())  # segments ascend
        rows = slice(begin, end)
        part = of_one_head(case, found, head, key_head, rows, rows)
        part["segments"] = found["segments"][-1:, rows]

        def cut(outs: Tensors, head: int = head, rows: slice = rows) -> dict[str, Any]:
            return {"": outs[""][-1:, head : head + 1, rows]}

        axes = {"B": 1, "H": 1, "Hkv": 1, "S": end - begin, "D": case.axes["D"]}
        yield Part(replace(case, axes=axes), part, cut)


def of_gradients(case: Case, found: Tensors) -> Iterator[Part]:
    """dq of some rows, and dk and dv of some keys: causal ones at the end, which the last queries alone see."""
    yield from of_queries(case, found, ("dq",))
    queries, keys, group = case.axes["Sq"], case.axes["Sk"], case.axes["H"] // case.axes["Hkv"]
    ranges = [(max(keys - KEYS, 0), keys)] if case.params.get("causal") else blocks(keys, KEYS)
    for start, end in dict.fromkeys(ranges):
        first = max(start - (keys - queries), 0) if case.params.get("causal") else 0
        heads = slice(case.axes["H"] - group, None)
        part = {name: found[name][-1:, heads, first:] for name in ("q", "out", "dout", "lse")}
        part |= {name: found[name][-1:, -1:, start:end] for name in ("k", "v")}

        def cut(outs: Tensors, start: int = start, end: int = end) -> dict[str, Any]:
            return {name: outs[name][-1:, -1:, start:end] for name in ("dk", "dv")}

        ordered = {name: part[name] for name in found}
        yield Part(sized(case, queries - first, end - start, group), ordered, cut)


def of_caches(case: Case, found: Tensors) -> Iterator[Part]:
    """Some new tokens of one sequence and key head, over the cache as those before them leave it."""
    page, tokens = case.axes.get("P", 0), case.axes["T"]
    group, last = case.axes["H"] // case.axes["Hkv"], case.axes["B"] - 1
    ends = blocks(tokens, FEW_ROWS)[::2]  # the first and the last: a cache takes the judge long
    for (start, end), b, key_head in dict.fromkeys(zip(ends, (0, last), (0, case.axes["Hkv"] - 1), strict=True)):
        length = int(found["lengths"][b])
        one, heads = slice(b, b + 1), slice(key_head * group, key_head * group + group)
        kept = slice(key_head, key_head + 1)
        places = length + end if not page else -(-(length + end) // page) * page
        pages = found["page_table"][b, : places // page].long() if page else None

        def of_sequence(cache: Any, pages: Any = pages, one: Any = one, kept: Any = kept, places: int = places) -> Any:
            return cache[one, kept, :places] if pages is None else cache[pages][:, kept]

        part = {"q": found["q"][one, heads, start:end]}
        for name in "kv":
            part[f"{name}_new"] = found[f"{name}_new"][one, kept, start:end]
            cache = of_sequence(found[f"{name}_cache"]).clone()
            if start:  # several blocks of tokens; no cache of pages or of float8 has them
                cache[:, :, length : length + start] = found[f"{name}_new"][one, kept, :start]
            part[f"{name}_cache"] = cache
            if f"{name}_scale" in found:
                part[f"{name}_scale"] = found[f"{name}_scale"][kept]
        part["lengths"] = found["lengths"][one] + start
        if page:
            part["page_table"] = found["page_table"].new_tensor([list(range(places // page))])

        def cut(
            outs: Tensors, one: Any = one, heads: Any = heads, rows: Any = slice(start, end), of: Any = of_sequence
        ) -> Any:
            caches = {name: of(outs[name]) for name in ("k_cache", "v_cache")}
            return {"out": outs["out"][one, heads, rows], **caches}

        axes = {**case.axes, "B": 1, "H": group, "Hkv": 1, "T": end - start, "S": places}
        yield Part(replace(case, axes=axes), {name: part[name] for name in found if name in part}, cut)
