"""The ops of this repository, one file an op: inputs, baselines, mutations, cases, flops and bytes.

The judge and every room above may import it; its files import ops, the reference and the ground.
"""

from __future__ import annotations

import importlib

from triptych.harness.errors import UsageError
from triptych.harness.ops.loading import OpFileError, from_file
from triptych.harness.ops.op import Op

MODULES = (  # harness/collection/<name>.py
    "matmul",
    "attention",
    "rmsnorm",
)


def builtin() -> dict[str, Op]:
    """The ops of this repository by name."""
    modules = (importlib.import_module(f"triptych.harness.collection.{name}") for name in MODULES)
    return {op.name: op for module in modules for op in module.OPS}


def load_ops(path: str | None) -> dict[str, Op]:
    """The ops of a user's file, or ours without one; UsageError if the file declares none."""
    if path is None:
        return builtin()
    try:
        return from_file(path)
    except OpFileError as error:
        raise UsageError(f"{error}.") from error
