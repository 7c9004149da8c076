"""The configurations that a launcher offers on a GPU, and how one of them is put in force.

    CONFIGURATIONS = {"sm_90": ({"TILE_M": 128, "TILE_N": 256}, {"TILE_M": 128, "TILE_N": 128})}

stands in the launcher's file: rows by architecture, as `--target` names it. The launcher takes the first. A kernel
under `triton.autotune` offers what its decorator lists. One in force is all that there is: the table has one row, and
the decorator one configuration, so that Triton times none.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from triptych.harness.backends.base import KernelFault

TABLE = "CONFIGURATIONS"
Value = int | float | str | bool
Row = Mapping[str, Value]
Setting = Mapping[str, Row]  # by TABLE, or by the name of an autotuned kernel; an empty one leaves all as it is


def architecture_of(target: Any) -> str:
    """The architecture whose rows are for a GPU, of what Triton's driver calls its target."""
    if target.backend != "cuda":
        return "gfx942"
    return "sm_90" if 90 <= target.arch < 100 else "sm_100" if 100 <= target.arch < 120 else "sm_80"


def table_of(launcher: Any) -> Mapping[str, Sequence[Row]]:
    """The table of a launcher's file, empty where there is none; KernelFault for what is no such table."""
    table = getattr(inspect.unwrap(launcher), "__globals__", {}).get(TABLE, {})
    rows = list(table.values()) if isinstance(table, Mapping) else [None]
    for some in rows:
        if not isinstance(some, (tuple, list)) or not some or not all(is_row(row) for row in some):
            raise KernelFault(
                f"{TABLE} must have rows of plain values by architecture, the first row the one that runs, as "
                f'{{"sm_90": ({{"BLOCK": 128}}, {{"BLOCK": 64}})}}; got {some or table!r}'
            )
    found: Mapping[str, Sequence[Row]] = table
    return found


def is_row(row: object) -> bool:
    return isinstance(row, Mapping) and all(isinstance(k, str) and isinstance(v, Value) for k, v in row.items())


def rows_of(launcher: Any, architecture: str) -> list[Setting]:
    """A setting for each row of an architecture, the first the launcher's own; an empty one without rows."""
    return [{TABLE: row} for row in table_of(launcher).get(architecture, ())] or [{}]


def offered(launcher: Any, architecture: str, call: Callable[[], object]) -> Iterator[Setting]:
    """Every setting, the launcher's own first: each row with each configuration of every autotuned kernel.

    call: calls the launcher, whose launches somebody records and does not make.
    """
    from triptych.harness.emulators.interpreter.launching import autotuned

    for setting in rows_of(launcher, architecture):
        with in_force(launcher, architecture, setting), autotuned() as met:
            call()
        for some in itertools.product(*met.values()):
            yield {**setting, **dict(zip(met, some, strict=True))}


@contextmanager
def in_force(launcher: Any, architecture: str, setting: Setting) -> Iterator[None]:
    """Within, the launcher runs in this configuration. An autotuned kernel that lacks it for its arguments is tuned."""
    from triton.runtime.autotuner import Autotuner

    from triptych.harness.emulators.interpreter.launching import choosing, configurations, run_with

    by_triton = Autotuner.run

    def run(self: Any, *args: Any, **named: Any) -> Any:
        found = configurations(self, args, named)
        return run_with(self, found[0], args, named) if len(found) == 1 else by_triton(self, *args, **named)

    variables = getattr(inspect.unwrap(launcher), "__globals__", {})
    rows = {TABLE: {**table_of(launcher), architecture: (setting[TABLE],)}} if TABLE in setting else {}
    kernels = {name: row for name, row in setting.items() if name != TABLE}
    with patch.dict(variables, rows), choosing(kernels), patch.object(Autotuner, "run", run if kernels else by_triton):
        yield


def in_words(setting: Setting) -> str:
    """`TILE_M=128 TILE_N=256, _kernel BLOCK=64 num_warps=4`."""
    rows = [
        " ".join([*([] if name == TABLE else [name]), *(f"{key}={value}" for key, value in row.items())])
        for name, row in setting.items()
    ]
    return ", ".join(rows) or "as it is"
