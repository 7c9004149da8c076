"""The key of what is kept: a digest of everything that determines it, so that what has changed is never found.

the op          the fingerprint of all but what runs kernels, names cases or measures
the case        sizes, params, regime, dtype, seed, and the bytes of its inputs as they were drawn
the bounds      that somebody asks for
the judge       its source, that of the ops and references that are ours, and the versions of Python and libraries
the arithmetic  processor, threads and switches of the libraries, which decide the order of sums
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

import triptych
from triptych.harness.bits import digest
from triptych.harness.judge.kept.fingerprint import with_libraries
from triptych.harness.judge.kept.reads import Undetermined
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.op import Op
from triptych.harness.results.environment import cpu, version

FORMAT = 1  # of what is kept: another one is never found
UNUSED = {  # fields of an op that neither its reference nor its tolerance depends on
    *("nki", "triton", "torch", "unsupported", "repeatable", "alone", "flops", "bytes"),
    *("summary", "cases", "axes", "dtypes", "tiles", "limits", "multiples"),
}
ROOMS = ("harness/judge", "harness/ops", "harness/results", "harness/collection", "reference")
SWITCHES = ("OMP_", "OPENBLAS_", "MKL_", "VECLIB_", "NPY_", "ATEN_", "TORCH_", "JAX_", "XLA_")
SETTLED_S = 2.0  # a file of ours that was saved later than so long before it was imported may have been so after it
_imported = time.time()


def key_of(problem: Problem, what: str) -> str:
    """The key of what is computed of a problem. Undetermined, with what nobody can tell it from."""
    op, libraries = with_libraries((declared(problem.op), problem.case))
    parts = {
        "format": FORMAT,
        "judge": judge(),
        "op": op.hex(),
        "inputs": {name: (x.dtype.name, x.shape, x.strides, digest(x)) for name, x in problem.inputs.items()},
        "order": list(problem.order),
        "what": what,
        "machine": machine(),
        "switches": {name: value for name, value in sorted(os.environ.items()) if name.startswith(SWITCHES)},
        "versions": dict(versions({*libraries, "numpy", "ml_dtypes"})),
        "libraries": dict(states(libraries)),
    }
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


def declared(op: Op) -> dict[str, Any]:
    """What of an op its reference and its tolerance depend on."""
    return {one.name: getattr(op, one.name) for one in fields(op) if one.name not in UNUSED}


@cache
def judge() -> str:
    """A digest of the files that judge. Undetermined where one may be newer than what was imported."""
    package = Path(triptych.__file__).parent
    found = sha256()
    for place in ROOMS:
        for file in sorted((package / place).rglob("*.py")):
            found.update(taken(file))
    for file in sorted((package / "harness").glob("*.py")):
        found.update(taken(file))
    return found.hexdigest()


def taken(file: Path) -> bytes:
    """The name of a file and what stands in it."""
    if file.stat().st_mtime > _imported - SETTLED_S:
        raise Undetermined(f"{file.name}, which was saved just now")
    return f"\0{file.name}\0".encode() + file.read_bytes()


@cache
def machine() -> str:
    return repr((triptych.__version__, platform.python_version(), platform.platform(), cpu()))


def versions(libraries: set[str]) -> Iterator[tuple[str, str]]:
    """Those of libraries: of what is imported, else of what would be."""
    if "jax" in libraries:
        libraries = {*libraries, "jaxlib"}
    for name in sorted(libraries - sys.stdlib_module_names):
        yield name, str(getattr(sys.modules.get(name), "__version__", None) or version(name))


def states(libraries: set[str]) -> Iterator[tuple[str, str]]:
    """What changes what the same calls give: how this thread rounds now, and settings of PyTorch and JAX."""
    rounded = np.array([1.0, 1.0, 0.0]) + np.array([2**-53 * 1.5, 2**-54, 5e-324])  # some library may flush the last
    yield "rounding", rounded.tobytes().hex()
    torch, jax = (sys.modules.get(name) if name in libraries else None for name in ("torch", "jax"))
    if torch is not None:
        precision, default = torch.get_float32_matmul_precision(), torch.get_default_dtype()
        yield "torch", repr((default, precision, torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()))
    if jax is not None:
        yield "jax", repr(sorted((name, repr(value)) for name, value in jax.config.values.items()))
