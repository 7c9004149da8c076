"""The one check that a kernel left its inputs as they were."""

from __future__ import annotations

import numpy as np

from triptych.harness.arrays import Arrays
from triptych.harness.backends.base import KernelFault
from triptych.harness.bits import digest, same_bits


class Sealed:
    """Arrays whose bytes must not change. As a context manager it checks when the block has run to its end."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.digests = {name: digest(x) for name, x in arrays.items()}

    def __enter__(self) -> Sealed:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is None:
            self.check()

    def check(self, copies: Arrays | None = None) -> None:
        """KernelFault if a byte of the arrays, or of the `copies` that the kernel had in their place, is another."""
        for name, x in (copies or self.arrays).items():
            if digest(x) == self.digests[name]:
                continue
            before = self.arrays[name]
            count = 0 if x is before else int(np.count_nonzero(~same_bits(before, x)))
            what = f"{count} of {x.size} elements of its input {name}" if count else f"its input {name}"
            raise KernelFault(
                f"the kernel changed {what}: write to a copy of it, or declare the op with mutates=({name!r},) if it "
                "is meant to"
            )
