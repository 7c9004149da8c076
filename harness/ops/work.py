"""How much a case needs at least: its operations and bytes, for rates and rooflines."""

from __future__ import annotations

from triptych.harness.dtypes import dtype_of
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import InvalidOp
from triptych.harness.ops.op import Op


def work_of(op: Op, case: Case) -> dict[str, int]:
    """{"flops", "bytes"}, each where the op says it; InvalidOp if it cannot be computed."""
    counts = {}
    try:
        if op.flops is not None:
            counts["flops"] = int(op.flops(case.axes, case.params))
        if op.bytes is not None:
            counts["bytes"] = int(op.bytes(case.axes, case.params, dtype_of(case.dtype).itemsize))
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise InvalidOp(f"the `flops` or `bytes` of op {op.name} cannot be computed: {why}") from error
    return counts
