"""The devices a launcher may be told that it runs on, where no such device is.

A launcher chooses its tiles by what the device has: how many processors, how much shared memory. It asks
`triton.runtime.driver.active`, which here answers from one of these records.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver


@dataclass(frozen=True)
class Device:
    """What Triton's driver says of a GPU."""

    backend: str  # "cuda", "hip"
    arch: int | str  # 90, "gfx942"
    warp_size: int
    processors: int  # streaming multiprocessors, compute units
    shared_bytes: int  # the most that one program may ask for

    @property
    def target(self) -> GPUTarget:
        return GPUTarget(self.backend, self.arch, self.warp_size)


# Shared memory of a block: CUDA C Programming Guide, "Technical Specifications per Compute Capability" (163, 227, 227
# KiB); LDS of gfx942: AMD CDNA 3 ISA (64 KiB). Processors: the A100, H100 SXM, B200 and MI300X data sheets.
DEVICES = {
    "sm_80": Device("cuda", 80, 32, 108, 163 * 1024),
    "sm_90": Device("cuda", 90, 32, 132, 227 * 1024),
    "sm_100": Device("cuda", 100, 32, 148, 227 * 1024),
    "gfx942": Device("hip", "gfx942", 64, 304, 64 * 1024),
}

# The interpreter runs one program after the other: one processor, so that launchers choose their largest tiles.
INTERPRETER = Device("cuda", 90, 32, 1, 227 * 1024)


class _Driver:
    """The part of `triton.backends.driver.DriverBase` that launchers ask."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.utils = self

    def get_current_target(self) -> GPUTarget:
        return self.device.target

    def get_current_device(self) -> int:
        return 0

    def get_device_properties(self, device: int) -> dict[str, Any]:
        return {"multiprocessor_count": self.device.processors, "max_shared_mem": self.device.shared_bytes}


@contextmanager
def pretend(device: Device) -> Iterator[None]:
    """Within, Triton's active driver describes `device`."""
    active = driver._active
    driver.set_active(_Driver(device))
    try:
        yield
    finally:
        driver._active = active
