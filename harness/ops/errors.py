"""What can be wrong with an op's own declaration, or with one of its cases; no kernel is to blame for these."""

from __future__ import annotations

from triptych.harness.ops.case import Case
from triptych.harness.results.status import Cause


class InvalidOp(Exception):
    """The op's own declaration is at fault; the text is one sentence."""

    cause = Cause.INVALID_OP


class RefusedInputs(InvalidOp):
    """The reference raised ValueError: it does not take what was drawn. Or a generator, of sizes that nothing has."""

    cause = Cause.REFUSED_INPUTS


class UninformativeCase(InvalidOp):
    """No output can be judged by the case; `unsuitable` says whether its regime or a size of 1 is to blame."""

    cause = Cause.UNINFORMATIVE_CASE

    def __init__(self, case: Case, why: str) -> None:
        regime = case.regime != "normal"
        self.unsuitable = regime or 1 in case.axes.values()  # normal inputs of ordinary sizes must say something
        instead = f"; {case.regime} inputs do not suit the op in {case.dtype}, unless it draws them itself (`inputs=`)"
        super().__init__(f"the case says nothing: {why}" + instead * regime)
