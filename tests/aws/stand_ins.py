"""What nki-library's tests import and a laptop has not: a small neuron_dtypes, and empty shells for the rest.

The tests run on AWS's hardware through tools that this script does not need (hosts, buckets, metrics); of those only
the names have to be there. `neuron_dtypes` casts arrays, packed MX elements included; ours is written from what the
tests ask of it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from triptych.simulator.dtypes import TABLE, dtype_of

SHELLS = (
    *("allpairspy", "attr", "aws_embedded_metrics", "boto3", "botocore", "fabric2", "filelock", "paramiko"),
    "plotext",
)
ORCHESTRATOR = "test.utils.test_orchestrator"
_FP8 = {"float8_e4m3fn_x4": ml_dtypes.float8_e4m3fn, "float8_e5m2_x4": ml_dtypes.float8_e5m2}
PACKED = {name: np.dtype([(name, TABLE[name].np)]) for name in (*_FP8, "float4_e2m1fn_x4")}


class Shell(types.ModuleType):
    """A module whose every name is a class that does nothing."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {})


class Shells(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a shell where the module itself is not installed: it is asked last."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] in SHELLS:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return Shell(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing: a shell is empty."""


def packed_name(dtype: Any) -> str | None:
    """The packed dtype that a dtype or a name says."""
    return next((name for name in PACKED if name in str(dtype)), None)


def static_cast(values: Any, dtype: Any) -> Any:
    """`values` in another dtype; four elements of the last axis become one packed element, and the other way."""
    array = np.ascontiguousarray(values)
    source, target = packed_name(array.dtype), packed_name(dtype)
    if source is not None and source == target:
        return array
    if source is not None:
        array = unpacked(array, source)
    if target is None:
        try:
            return array.astype(dtype_of(dtype).np)
        except Exception:  # a dtype of NumPy's that NKI has not, as float64
            return array.astype(dtype)
    fours = array.astype(np.float32).reshape(*array.shape[:-1], array.shape[-1] // 4, 4)
    if target in _FP8:
        raw = np.ascontiguousarray(fours.astype(_FP8[target])).view(np.uint32)[..., 0]
    else:
        nibbles = fours.astype(ml_dtypes.float4_e2m1fn).view(np.uint8).astype(np.uint16)
        raw = (nibbles << np.array([0, 4, 8, 12], np.uint16)).sum(axis=-1, dtype=np.uint16)
    return np.ascontiguousarray(raw).view(PACKED[target])


def unpacked(array: Any, name: str) -> Any:
    """Packed elements as float32, the last axis four times as long."""
    raw = np.ascontiguousarray(array).view(TABLE[name].np)
    if name in _FP8:
        parts = raw[..., None].view(np.uint8).view(_FP8[name])
    else:
        nibbles = (raw[..., None] >> np.array([0, 4, 8, 12], np.uint16)) & np.uint16(15)
        parts = nibbles.astype(np.uint8).view(ml_dtypes.float4_e2m1fn)
    return parts.astype(np.float32).reshape(*raw.shape[:-1], -1)


def neuron_dtypes() -> types.ModuleType:
    module = types.ModuleType("neuron_dtypes")
    module.__dict__.update({name: kind.np for name, kind in TABLE.items() if kind.kind != "x"})
    module.__dict__.update(PACKED)
    module.__dict__.update(
        static_cast=static_cast,
        is_float_type=lambda dtype: "float" in str(dtype),
        sizeinbytes=lambda dtype: dtype_of(dtype).itemsize,
        finfo=lambda dtype: ml_dtypes.finfo(dtype_of(dtype).np),
    )
    return module


def install() -> None:
    """Put the stand-ins where imports find them, and the packed dtypes where np.dtype finds names."""
    sys.meta_path.append(Shells())
    modules = {"neuron_dtypes": neuron_dtypes(), ORCHESTRATOR: Shell(ORCHESTRATOR)}
    for name in ("neuronxcc.starfish", "neuronxcc.starfish.support", "neuronxcc.starfish.support.dtype"):
        modules[name] = types.ModuleType(name)
        modules[name].__dict__.update(__path__=[], static_cast=static_cast)
    sys.modules.update(modules)
    np._core.sctypeDict.update(PACKED)
