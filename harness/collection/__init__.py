"""The rows of the op table, one file per op: inputs, honest baselines, cases, flops and bytes."""

from __future__ import annotations

import importlib

from triptych.harness.ops.op import Op

MODULES = ("matmul", "attention")  # harness/collection/<name>.py


def builtin() -> dict[str, Op]:
    """The ops of this repository by name."""
    modules = (importlib.import_module(f"triptych.harness.collection.{name}") for name in MODULES)
    return {op.name: op for module in modules for op in module.OPS}
