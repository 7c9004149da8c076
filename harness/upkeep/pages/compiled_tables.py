"""The table of docs/compile.md: what each Triton kernel of the collection costs on each GPU, at sizes of real use."""

from __future__ import annotations

from collections.abc import Iterator

import triton

from triptych.harness.collection import builtin
from triptych.harness.emulators.compilation import TARGETS
from triptych.harness.ops.selection import Selection
from triptych.harness.profiling.ahead_of_time import Compilation, compilations
from triptych.harness.reports.markdown import code, markdown_table
from triptych.harness.reports.profile.compiled import HEADER, row

# One case of each op: a square product, and a layer's attention of Llama 3.1 8B over 4096 tokens.
CASES = {
    "matmul": "M=4096,K=4096,N=4096",
    "matmul_tiled": "M=4096,K=4096,N=4096",
    "attention": "B=1,H=32,Hkv=8,Sq=4096,Sk=4096,D=128,causal=True",
}
LEFT_OUT = ("dtype", "case", "stages", "kernel")


def measured() -> Iterator[Compilation]:
    """Every kernel of `CASES` in bfloat16."""
    for name, spec in CASES.items():
        yield from compilations([builtin()[name]], Selection(specs=[spec], dtypes=["bfloat16"]), TARGETS)


def compiled() -> str:
    """A row each kernel and target, under the version of Triton that made it."""
    kept = [i for i, title in enumerate(HEADER) if title not in LEFT_OUT]
    rows = [[row(one)[i] for i in kept] for one in measured()]
    rows = [[code(first), *rest] for first, *rest in rows]
    return f"Triton {triton.__version__}, bfloat16.\n\n{markdown_table([HEADER[i] for i in kept], rows)}"


TABLES = {"compiled": compiled}
