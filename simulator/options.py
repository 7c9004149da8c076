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


@dataclass(frozen=True)
class Options:
    """How strict the simulator is. The defaults find bugs; each field is one leniency with a name."""

    round_low_precision: bool = True  # False keeps bfloat16, float16 and float8 in float32 (NKI_PRECISE_FP=0)
    check_uninitialized: bool = True  # False lets reads of memory that nothing wrote return garbage
    check_races: bool = True  # False lets two cores touch the same shared HBM without a barrier
    check_accumulation: bool = True  # False lets a matmul add to what is not zero and no matmul wrote (v2, v3)
    check_capacity: bool = True  # False runs a kernel that needs more SBUF or PSUM than a core has
    check_operands: bool = True  # False takes what the documentation excludes and AWS's own kernels pass: a raw integer
    #   for the member of an enumeration, dge_mode.none for a direct dma_transpose, a core_barrier on data in SBUF, a
    #   tensor that register_alloc loads, operand tiles of tensor_scalar that are not float32, tiles of MX scales with
    #   more partitions than their values, as the first stride of ap the elements that a view has in a partition, a
    #   whole float for the integer of a memset
    data: bool = True  # False executes a kernel with the shapes of its arguments alone: only the trace is made
    lint: bool = True  # False does not warn of what the compiler would reject (docs/lint.md)
    observe: Observer | None = None  # is shown each executed instruction (machine/observed.py); for runs with data
    api: str = field(default_factory=default_api)  # the version of NKI. "0.6" takes the loops that 0.7 removed. "0.3"
    #   does as NKI 0.3 did where 0.5 and 0.6 changed what an instruction gives:
    #   quantize_mx's scale is half as large; nc_find_index8 gives the first position to equal values, and 0 where there
    #   is none; nc_match_replace8 goes through its values upwards; floats are cast to integers toward zero
    #   (release-notes/components/nki.rst, Improvements of 0.5.0 and Bug Fixes of 0.6.0)

    def __post_init__(self) -> None:
        if self.api not in APIS:
            raise KernelError(f"api {self.api!r} is unknown; expected one of {', '.join(APIS)}")

    @property
    def as_nki_0_3(self) -> bool:
        return self.api == "0.3"
