"""Names of NKI 0.3 that AWS's own kernels still import and the reference manual of 0.6 does not list.

nki-library at tag 2.29, written for NKI 0.3, is the list: a test imports each name as that library does. The modules
went when 0.5.0 renamed its internal ones and left shims behind (release-notes/components/nki.rst, NKI 0.5.0), so a
kernel that names them still runs; what was taken away is in removed.py, with what replaced it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from triptych.simulator import enums
from triptych.simulator.dtypes import TABLE
from triptych.simulator.language.annotations import Tensor

_SHIM = "internal since 0.5.0"
_NEVER = "in no reference manual"

# What nki.jit takes and ignores: `mode` as the release notes of 0.3.0 say, the rest because nki-library's qkv says it.
JIT_OPTIONS = {"mode", "debug_kernel", "experimental_flags", "show_compiler_tb"}


@dataclass(frozen=True)
class Older:
    """One name that is kept: what it holds, since when it is gone, and its name in NKI 0.6."""

    name: str
    value: Any
    gone: str
    now: str


OLDER = (
    *(
        Older(f"nki.isa.constants.{name}", getattr(enums, name), _SHIM, f"nki.isa.{name}")
        for name in ("dge_mode", "dma_engine", "engine", "matmul_perf_mode", "nc_version", "oob_mode", "reduce_cmd")
    ),
    *(
        Older(f"nki.dtype.{name}", dtype, _SHIM, f"nki.language.{name}")
        for name, dtype in TABLE.items()
        if name not in ("int64", "uint64")
    ),
    Older("nki.typing.mutable_tensor", Tensor, _NEVER, "nki.typing.tensor"),
    Older("neuronxcc.nki.typing.mutable_tensor", Tensor, "0.4.0", "nki.typing.tensor"),
    Older("neuronxcc.nki.typing.tensor", Tensor, "0.4.0", "nki.typing.tensor"),
    Older("nki.language.bool", TABLE["bool_"], _NEVER, "nki.language.bool_"),
    Older("nki.language.range", range, _NEVER, "range"),
)


def contents(module: str) -> dict[str, Any]:
    return {row.name.rpartition(".")[2]: row.value for row in OLDER if row.name.rpartition(".")[0] == module}
