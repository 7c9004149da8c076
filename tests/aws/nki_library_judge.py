"""The judge of a test of nki-library: it runs the kernel on the simulator and asks AWS's own comparison.

The tests hand inputs, kernel and reference to an orchestrator, in whose place `Judge` stands. AWS's comparison holds
for an output where every element lies within atol + rtol * the largest |reference|, or where a validator of the test's
says so.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from aws import stand_ins
from aws.table import Ran, distance, execute
from triptych import simulator
from triptych.simulator import Options
from triptych.simulator.dtypes import dtype_of


class Judge:
    """Stands where the tests have their orchestrator: `execute` runs a kernel, and AWS's comparison judges it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.ran: list[Ran] = []
        self.trace_mode = importlib.import_module("test.utils.common_dataclasses").TraceMode.Simulator

    def execute(self, test: Any) -> None:
        compiler = test.compiler_input
        target = compiler.platform_target.get_compile_target()
        os.environ["NKI_NC_VERSION"] = compiler.platform_target.get_nc_gen()
        kernel, cores = test.kernel_func, compiler.logical_nc_config
        launched = kernel if hasattr(kernel, "__getitem__") else simulator.jit(kernel)
        ranks = test.inference_args.collective_ranks
        given = [taken(test.kernel_input, rank) for rank in range(ranks)]
        outputs, seconds, instructions = execute(
            launched[cores], target, self.options, given if ranks > 1 else given[0]
        )
        verdicts = [
            judged(test.validation_args, rank, outputs[rank] if ranks > 1 else outputs, ranks > 1)
            for rank in (range(ranks) if per_rank(test.validation_args) else (0,))
        ]
        errors = [error for _, error, _ in verdicts if error is not None]
        self.ran.append(
            Ran(
                getattr(kernel, "__name__", type(kernel).__name__),
                target,
                cores,
                seconds,
                instructions,
                all(holds for holds, _, _ in verdicts),
                max(errors) if errors else None,
                "; ".join(dict.fromkeys(note for _, _, note in verdicts if note))
                + (f"; {ranks} ranks" if ranks > 1 else ""),
            )
        )


def taken(given: Any, rank: int) -> dict[str, Any]:
    """The arguments of one rank, in copies, by the kernel's own names."""
    arguments = given if isinstance(given, dict) else given.for_rank(rank)
    return {
        name.removesuffix(".must_alias_input"): value.copy() if isinstance(value, np.ndarray) else value
        for name, value in arguments.items()
    }


def per_rank(wanted: Any) -> bool:
    return wanted is not None and type(wanted.golden_output).__name__ == "PerRankLazyGoldenGenerator"


def judged(wanted: Any, rank: int, outputs: Any, collective: bool) -> tuple[bool, float | None, str]:
    """(whether AWS's criterion holds, the largest error, remark) of the outputs of one rank.

    Where a test gives no reference, AWS's orchestrator compares nothing. A collective is compared with what the test
    stores as its outputs: the expected ones. Others store empty arrays there, as attention_cte where it is too large.
    """
    golden: Any = None if wanted is None else wanted.golden_output
    stored: dict[str, Any] = {}  # what the test says the outputs are, where it says so apart from the reference
    if golden is not None and not isinstance(golden, dict):
        stored = getattr(golden, "output_ndarray", {})
        golden = golden.for_rank(rank) if per_rank(wanted) else golden.golden
    if golden is None and collective and any(np.any(values) for values in stored.values()):
        golden = stored
    if golden is None:
        return True, None, "checks itself"
    given = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    named = dict(zip(stored if set(golden) <= set(stored) else golden, given, strict=False))
    if not set(golden) <= set(named):
        return False, None, f"{len(given)} outputs where {len(golden)} are expected"
    holds, notes = True, []
    with comparisons() as errors:
        for name, expected in golden.items():
            out = named[name]
            if hasattr(expected, "validator"):
                same = expected.validator(None).validate(as_stored(out, expected.output_ndarray))
            else:
                a, b = as_float32(out, stored.get(name, expected)), as_float32(expected, expected)
                same = a.size == b.size and comparators().maxAllClose(
                    a.reshape(b.shape), b, wanted.relative_accuracy, wanted.absolute_accuracy
                )
                if not np.any(b):
                    notes.append(f"{name} is expected to be zero")
            holds = bool(same) and holds
    return holds, max(errors) if errors else None, "; ".join(notes)


def comparators() -> types.ModuleType:
    return importlib.import_module("test.integration.nkilib.utils.comparators")


@contextmanager
def comparisons() -> Iterator[list[float]]:
    """The errors of everything that AWS's comparison compares meanwhile, in the tests' own validators too."""
    errors: list[float] = []
    original = comparators().maxAllClose

    def noted(a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
        errors.append(distance(a, b))
        return original(a, b, *args, **kwargs)

    users = [m for m in list(sys.modules.values()) if getattr(m, "maxAllClose", None) is original]
    for module in users:
        module.maxAllClose = noted  # type: ignore[attr-defined]
    try:
        yield errors
    finally:
        for module in users:
            module.maxAllClose = original  # type: ignore[attr-defined]


def as_stored(out: Any, like: Any) -> Any:
    """The bytes of an output in the dtype that the test expects, as its validators take them."""
    if stand_ins.packed_name(like.dtype) is None:
        out = np.asarray(out).astype(dtype_of(like.dtype).np)
    return np.ascontiguousarray(out).view(np.uint8).ravel()


def as_float32(values: Any, like: Any) -> Any:
    """Values for the comparison; packed elements are compared as four, or as the bytes that the test reads them as."""
    values, kind = np.asarray(values), np.asarray(like).dtype
    name = stand_ins.packed_name(kind)
    if name is not None:
        return stand_ins.unpacked(values, name)
    if values.dtype.kind == "u" and kind.kind == "f" and values.dtype.itemsize == kind.itemsize:
        values = np.ascontiguousarray(values).view(kind)
    return values.astype(np.float32)
