"""The table of docs/compile.md: what each Triton kernel of the collection costs on each GPU, at sizes of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import triton

from triptych.harness.collection import builtin
from triptych.harness.emulators.compilation import TARGETS, CompiledKernel
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.profiling.ahead_of_time import of_case
from triptych.harness.reports.markdown import code, markdown_table

SET, MODEL, DTYPE = "model-long", "llama-3.1-8b", "bfloat16"
Cells = dict[str, str]  # by target


def cases(op: Op) -> list[Case]:
    """The cases at which an op's kernels are compiled: a model's, or the first of those that an op has for models."""
    known = op.case_sets.get(SET) or next(iter(op.case_sets.values()))
    of_model = [case for case in known if MODEL in case.name] or known[:1]
    return [replace(case, dtype=DTYPE) for case in of_model]


def kernels(op: Op) -> Iterator[tuple[Case, str, Cells]]:
    """Every kernel that an op launches for a case, in order, and its cell for each target that launches it."""
    for case in cases(op):
        found: dict[str, Cells] = {}
        for target in TARGETS:
            for one in of_case(op, case, target):
                name = one.kernel.kernel if one.kernel else "does not compile"
                found.setdefault(name, {}).setdefault(target, cell(one.kernel) if one.kernel else one.fault)
        for name, cells in found.items():
            yield case, name, cells


def cell(kernel: CompiledKernel) -> str:
    """The matrix unit, registers of a thread, what of it spilled, and shared memory."""
    said = [name.removesuffix(".mma").removesuffix(".mma_async") for name in kernel.matrix_instructions]
    said.append(f"{kernel.registers} regs")
    if kernel.spills_bytes:
        said.append(f"{kernel.spills_bytes} B spilled")
    if kernel.shared_bytes >= 1024:
        said.append(f"{kernel.shared_bytes / 1024:.0f} KiB")
    return ", ".join(said)


def rows(ops: Iterable[Op]) -> Iterator[list[str]]:
    """A row each kernel and size; sizes at which it costs the same share one."""
    for op in ops:
        merged: dict[tuple[str, ...], list[str]] = {}
        for case, name, cells in kernels(op):
            merged.setdefault((name, *(cells.get(target, "") for target in TARGETS)), []).append(case.name)
        for (name, *costs), names in merged.items():
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            yield [code(op.name), code(name), f"{names[0]}{others}", *costs]


def with_triton() -> list[Op]:
    return [op for op in builtin().values() if op.triton is not None]


def compiled() -> str:
    """The table of the whole collection, under the version of Triton that made it."""
    table = markdown_table(["op", "kernel", "case", *TARGETS], list(rows(with_triton())))
    return f"Triton {triton.__version__}, {DTYPE}.\n\n{table}"


TABLES = {"compiled": compiled}
