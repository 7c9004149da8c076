"""Why a name is not in NKI, and what to write instead: for whoever runs a kernel and for the linter."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from triptych.simulator import removed
from triptych.simulator.operands.operators import OPS
from triptych.simulator.options import APIS

# Names that NKI never had and kernels ask for, by what others call them.
_NEVER = {
    "nki.language.cast": "nl.copy(x, dtype=..)",
    "nki.language.astype": "nl.copy(x, dtype=..)",
    "nki.language.relu6": "nl.minimum(nl.relu(x), 6.0)",
    "nki.language.dot": "nl.matmul(x, y, transpose_x=True)",
    "nki.language.concat": "one tensor, and a copy into each part of it",
    "nki.language.concatenate": "one tensor, and a copy into each part of it",
}


def absence(name: str, known: Iterable[str] = ()) -> str:
    """Why a dotted name is not in NKI, and what to use instead, if need be the one of `known` that is spelled alike."""
    if name.startswith("neuronxcc.") and "__" not in name:
        return f"{name} went with NKI 0.2; use {name.removeprefix('neuronxcc.')}"
    if name in removed.NAMES:
        return f"{name} is not in NKI {APIS[0]}: {removed.NAMES[name]}"
    return f"{name} is not a name of NKI {APIS[0]}{instead(name, known)}"


def instead(name: str, known: Iterable[str]) -> str:
    """What to write for a name that NKI never had: by what it means, else the one of `known` that is spelled alike."""
    if name in _NEVER:
        return f"; write {_NEVER[name]}"
    module, _, last = name.rpartition(".")
    op = OPS.get(last) if module == "nki.isa" else None
    if op is not None and op.act is not None:
        return f"; write nisa.activation(dst=.., op=nl.{last}, data=..)"
    if op is not None and op.alu is not None:
        return f"; write nisa.tensor_{'tensor' if op.binary else 'scalar'}(.., op{'' if op.binary else '0'}=nl.{last})"
    close = difflib.get_close_matches(last, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""
