"""The ops of this repository, one file an op: inputs, baselines, mutations, cases, flops and bytes.

The judge and every room above may import it; its files import ops, the reference and the ground.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from triptych.harness.errors import UsageError
from triptych.harness.ops.loading import OpFileError, from_file
from triptych.harness.ops.op import Op

MODULES = (  # harness/collection/<name>.py
    "matmul",
    "attentions.forward",
    "attentions.hopper",
    "attentions.variants",
    "attentions.decode",
    "attentions.decode_variants",
    "attentions.backward",
    "rmsnorm",
    "rope",
    "linear",
    "losses",
    "float8",
)


def builtin() -> dict[str, Op]:
    """The ops of this repository by name."""
    modules = (importlib.import_module(f"triptych.harness.collection.{name}") for name in MODULES)
    return {op.name: op for module in modules for op in module.OPS}


def load_ops(paths: Sequence[str]) -> dict[str, Op]:
    """The ops of a user's files, or ours without any, by name; UsageError if a file declares none."""
    return builtin() if not paths else {name: op for _, ops in declared(paths) for name, op in ops.items()}


def declared(paths: Sequence[str]) -> list[tuple[str, dict[str, Op]]]:
    """Each of a user's files, once, with the ops that it declares. UsageError if two declare one of the same name."""
    found: list[tuple[str, dict[str, Op]]] = []
    for path in {Path(path).resolve(): path for path in reversed(paths)}.values():
        try:
            ops = from_file(path)
        except OpFileError as error:
            raise UsageError(f"{error}.") from error
        for other, others in found:
            for name in ops.keys() & others.keys():
                raise UsageError(f"both {path} and {other} declare an op {name!r}; run one file at a time.")
        found.insert(0, (path, ops))
    return found
