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
class Processor:
    """What programs share that run on one multiprocessor of NVIDIA's or compute unit of AMD's.

    units: each with registers and warps of its own, among which a program's warps are spread.
    registers: of a unit, 32 bits each; a warp gets them in portions of `register_portion`.
    warps: the most that a unit holds.
    programs: the most that the processor holds.
    shared_bytes: for all programs, each of which gets `reserved_bytes` more than it asks for, in portions.
    tensor_columns: of Tensor Memory; 0 where there is none.
    """

    units: int
    registers: int
    register_portion: int
    warps: int
    programs: int
    shared_bytes: int
    shared_portion: int
    reserved_bytes: int
    tensor_columns: int = 0


@dataclass(frozen=True)
class Device:
    """What Triton's driver says of a GPU."""

    backend: str  # "cuda", "hip"
    arch: int | str  # 90, "gfx942"
    warp_size: int
    processors: int  # streaming multiprocessors, compute units
    shared_bytes: int  # the most that one program may ask for
    processor: Processor

    @property
    def target(self) -> GPUTarget:
        return GPUTarget(self.backend, self.arch, self.warp_size)


# CUDA C++ Programming Guide, "Technical Specifications per Compute Capability": 64 K registers, 64 warps and 32 blocks
# of a multiprocessor, its shared memory (164, 228, 228 KiB), that of a block (163, 227, 227) and 1 KiB of it reserved.
# CUDA toolkit, cuda_occupancy.h: four sub-partitions and the portions. PTX ISA, "Tensor Memory": 512 columns.
_AMPERE = Processor(4, 16384, 256, 16, 32, 164 * 1024, 128, 1024)
_HOPPER = Processor(4, 16384, 256, 16, 32, 228 * 1024, 128, 1024)
_BLACKWELL = Processor(4, 16384, 256, 16, 32, 228 * 1024, 128, 1024, tensor_columns=512)
# LLVM, AMDGPU's GCNSubtarget and AMDGPUBaseInfo for gfx90a and gfx942: four SIMD units, each with 512 vector registers
# of a lane in portions of 8, and 8 waves; 16 barriers, so 16 programs of several waves. AMD CDNA 3 ISA: 64 KiB of LDS.
_CDNA3 = Processor(4, 512 * 64, 8 * 64, 8, 16, 64 * 1024, 512, 0)

# Processors: the A100, H100 SXM, B200 and MI300X data sheets.
DEVICES = {
    "sm_80": Device("cuda", 80, 32, 108, 163 * 1024, _AMPERE),
    "sm_90": Device("cuda", 90, 32, 132, 227 * 1024, _HOPPER),
    "sm_100": Device("cuda", 100, 32, 148, 227 * 1024, _BLACKWELL),
    "gfx942": Device("hip", "gfx942", 64, 304, 64 * 1024, _CDNA3),
}

# The interpreter runs one program after the other: one processor, so that launchers choose their largest tiles.
INTERPRETER = Device("cuda", 90, 32, 1, 227 * 1024, _HOPPER)


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
