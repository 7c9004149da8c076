"""How strict the simulator is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from triptych.simulator.errors import KernelError
from triptych.simulator.trace import Event

APIS = ("0.7", "0.6", "0.3")  # versions of NKI, the newest first
API_VARIABLE = "TRIPTYCH_NKI"
Observer = Callable[[Event, Sequence[Any], Sequence[Any]], None]  # (event, tensors that it read, that it wrote)


def default_api() -> str:
    """The version of NKI where none is asked for: that of TRIPTYCH_NKI; 0.6 where AWS's variable keeps its front end.

    NKI_COMPILER_FRONTEND is `custom` for the specialization of before 0.7, and was `parser` in 0.6.
    """
    if os.environ.get(API_VARIABLE):
        return os.environ[API_VARIABLE]
    return "0.6" if os.environ.get("NKI_COMPILER_FRONTEND") in ("custom", "parser") else APIS[0]


# What the documentation excludes and AWS's own kernels, which run on its chips, do all the same: a remark, or by
# Options.strict an error.
REMARKS = {
    "unwritten-read": "an instruction reads memory that nothing wrote, and nothing that is returned rests on it",
    "raw-member": "a raw integer for the member of an enumeration",
    "whole-float": "a whole float for the integer of a memset",
    "transpose-mode": "dge_mode.none for a direct dma_transpose",
    "barrier-buffer": "a core_barrier on data in SBUF",
    "register-of-tensor": "a register that register_alloc loads from a tensor",
    "operand-dtype": "operand tiles of tensor_scalar that are not float32",
    "collective-memory": "on one core a collective on shared HBM, as AWS's kernels of NKI 0.3 have it",
    "pattern-stride": "as the first stride of ap the elements that a view has in a partition, where a tile has more",
    "scale-padding": "rows of a scale tile that quantize_mx leaves, and nothing else wrote, are taken for zeros",
    "race-without-effect": "two cores race, and either order of the cores gives the same results",
}


@dataclass(frozen=True)
class Options:
    """How strict the simulator is. The defaults find bugs; each field is one leniency with a name."""

    round_low_precision: bool = True  # False keeps bfloat16, float16 and float8 in float32 (NKI_PRECISE_FP=0)
    check_uninitialized: bool = True  # False lets results, indices and registers rest on memory that nothing wrote
    check_races: bool = True  # False lets two cores touch the same shared HBM without a barrier
    check_accumulation: bool = True  # False lets a matmul add to what is not zero and no matmul wrote (v2, v3)
    check_capacity: bool = True  # False runs a kernel that needs more SBUF or PSUM than a core has
    strict: bool | frozenset[str] = False  # True makes errors of REMARKS, a set of their names of those alone
    defer: bool = True  # False moves data and multiplies at each instruction, not when somebody looks at the results
    data: bool = True  # False executes a kernel with the shapes of its arguments alone: only the trace is made
    lint: bool = True  # False does not warn of what the compiler would reject (docs/lint.md)
    observe: Observer | None = None  # is shown each executed instruction (machine/observed.py); for runs with data
    api: str = field(default_factory=default_api)  # the version of NKI. "0.6" takes the loops that 0.7 removed. "0.3"
    #   has the scale of quantize_mx half as large (release-notes/components/nki.rst, Improvements of 0.5.0); what else
    #   0.6.0 changed in results were faults of AWS's simulator, "to match hardware", which no version has here

    def __post_init__(self) -> None:
        if self.api not in APIS:
            raise KernelError(f"api {self.api!r} is unknown; expected one of {', '.join(APIS)}")
        unknown = self.strict - REMARKS.keys() if isinstance(self.strict, frozenset) else ()
        if unknown:
            raise KernelError(f"strict knows no {', '.join(sorted(unknown))}; it knows {', '.join(REMARKS)}")

    def forbids(self, remark: str) -> bool:
        """Whether one of REMARKS is an error."""
        assert remark in REMARKS
        return self.strict if isinstance(self.strict, bool) else remark in self.strict

    @property
    def as_nki_0_3(self) -> bool:
        return self.api == "0.3"
