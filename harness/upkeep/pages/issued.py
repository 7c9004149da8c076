"""What functions of `nki.language` issue: each is called on small tensors on every generation, and its trace read."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from triptych.harness.upkeep.pages.nki_names import Name
from triptych.simulator import CHIPS, Chip, NkiValidationError, Options, Trace
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.machine import Machine
from triptych.simulator.operands.operators import OPS
from triptych.simulator.running import on_machine

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

_SHAPE = (32, 8)
# Arguments that a function needs beside those without a default, or that its operands' shapes ask for.
_SPECIAL: dict[str, dict[str, Any]] = {
    "matmul": {"transpose_x": True},
    "broadcast_to": {"x": (32, 1)},
    "gather_flattened": {"indices": "uint32"},
    "load_transpose2d": {"src": "bfloat16"},
}


def issued(name: Name) -> dict[int, tuple[str, ...]]:
    """{generation: ("tensor_reduce on vector", ..)}, without the generations that refuse the function."""
    found = {}
    for chip in CHIPS:
        try:
            found[chip.generation] = _events(name, chip)
        except NkiValidationError as e:
            if "needs NeuronCore-v" not in e.message:
                raise
    return found


def _events(name: Name, chip: Chip) -> tuple[str, ...]:
    trace = Trace(chip, chip.targets[0])
    with on_machine(Machine(chip, trace, Options(api="0.6"))), np.errstate(all="ignore"):
        arguments = _arguments(name)
        with contextlib.redirect_stdout(io.StringIO()):
            getattr(nl, name.name)(**arguments)
    return tuple(f"{e.op} on {e.engine}" for e in trace.events)


def _arguments(name: Name) -> dict[str, Any]:
    """A value for each parameter that has no default."""
    special = _SPECIAL.get(name.name, {})
    whole = name.name in OPS and OPS[name.name].bitvec
    made: dict[str, Any] = {k: v for k, v in special.items() if not isinstance(v, (tuple, str))}
    for parameter, default in name.parameters or ():
        if default is None:
            asked = special.get(parameter)
            shape = asked if isinstance(asked, tuple) else _SHAPE
            dtype = asked if isinstance(asked, str) else "uint8" if whole or parameter == "condition" else "float32"
            made[parameter] = _value(parameter, shape, dtype)
    return made


def _value(parameter: str, shape: tuple[int, ...], dtype: str) -> Any:
    if parameter in ("x", "y", "w", "condition", "data", "indices", "value", "tensor"):
        return _tensor(shape, dtype, nl.sbuf)
    if parameter in ("src", "dst"):
        return _tensor(shape, dtype, nl.shared_hbm)
    if parameter in ("init", "lower", "upper"):
        return nisa.register_alloc(0)
    return {
        "shape": _SHAPE,
        "dtype": "float32",
        "fill_value": 1,
        "axis": 1,
        "n": 8,
        "rate": 0.5,
        "seed": _tensor((1, 1), "uint32", nl.sbuf),
        "constant": np.eye(8, dtype=np.float32),
        "start": 0,
        "size": 4,
        "body_fun": lambda i: None,
        "buffer": nl.sbuf,
        "print_prefix": "",
    }[parameter]


def _tensor(shape: tuple[int, ...], dtype: str, buffer: Any) -> Any:
    tensor = nl.ndarray(shape, dtype, buffer)
    tensor.array[...] = 1
    tensor.wrote()
    return tensor
