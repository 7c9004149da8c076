"""Tensors in HBM at addresses of their own: `nl.ndarray(..., address=(byte,))`.

HBM has one address where SBUF and PSUM have two (nki.language.ndarray.html of SDK 2.33). No instruction asks where a
tensor lies in HBM, so an address says one thing: which tensors share bytes. A tensor that lies within one that is still
held is a view of it, and any other has storage of its own.
"""

from __future__ import annotations

import weakref
from typing import Any

from triptych.simulator.errors import NkiValidationError
from triptych.simulator.memory.storage import Storage

SOURCE = "nki.language.ndarray.html of SDK 2.33"


def check_hbm_address(address: Any) -> int:
    """The byte of an address in HBM."""
    if not (isinstance(address, (tuple, list)) and len(address) == 1 and type(address[0]) is int and address[0] >= 0):
        raise NkiValidationError(
            f"an address in HBM is (byte,), one integer of 0 or more; got {address!r}", source=SOURCE
        )
    return address[0]


class HbmAddresses:
    """Which storage holds which bytes of one HBM."""

    def __init__(self) -> None:
        self._held: list[tuple[int, weakref.ref[Storage]]] = []

    def place(self, byte: int, new: Storage, itemsize: int) -> tuple[Storage, int]:
        """The storage that a new tensor from `byte` on lies in, and the first of its elements there."""
        alive = [(first, storage) for first, ref in self._held if (storage := ref()) is not None]
        for first, storage in alive:
            if first >= byte + new.nbytes or byte >= first + storage.nbytes:
                continue
            if byte < first or byte + new.nbytes > first + storage.nbytes or (byte - first) % itemsize:
                raise NkiValidationError(
                    f"bytes {byte} to {byte + new.nbytes} of HBM are partly those of {storage.allocation.name!r}, "
                    f"{first} to {first + storage.nbytes}, which the simulator shares by whole elements of one "
                    "tensor alone; allocate that which holds both first"
                )
            return storage, (byte - first) // itemsize
        self._held = [(first, weakref.ref(storage)) for first, storage in alive]
        self._held.append((byte, weakref.ref(new)))
        return new, 0
