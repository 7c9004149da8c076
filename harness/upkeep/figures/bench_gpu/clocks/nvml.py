"""A GPU's clock and what holds it back, asked of NVIDIA's management library; None where it is not there."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

SM_CLOCK = 1  # NVML_CLOCK_SM
# nvmlClocksEventReasons of nvml.h that slow a busy GPU; idleness and clocks that somebody set are none.
REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}


@dataclass(frozen=True)
class Clock:
    """One reading."""

    sm_mhz: int
    reasons: tuple[str, ...]  # why it is not higher


@cache
def library() -> Any:
    """The loaded library, or None."""
    try:
        found = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    return found if found.nvmlInit_v2() == 0 else None


@cache
def handle(uuid: str) -> Any:
    """The device of a UUID as CUDA gives it, or None."""
    nvml, found = library(), ctypes.c_void_p()
    name = (uuid if uuid.startswith("GPU-") else f"GPU-{uuid}").encode()
    if nvml is None or nvml.nvmlDeviceGetHandleByUUID(ctypes.c_char_p(name), ctypes.byref(found)) != 0:
        return None
    return found


def read(uuid: str) -> Clock | None:
    """The clock of a device now."""
    device = handle(uuid)
    if device is None:
        return None
    mhz, bits = ctypes.c_uint(), ctypes.c_ulonglong()
    if library().nvmlDeviceGetClockInfo(device, SM_CLOCK, ctypes.byref(mhz)) != 0:
        return None
    if library().nvmlDeviceGetCurrentClocksThrottleReasons(device, ctypes.byref(bits)) != 0:
        return None
    return Clock(mhz.value, tuple(word for bit, word in REASONS.items() if bits.value & bit))


def in_words(readings: list[Clock | None]) -> str:
    """A sentence on readings before, amid and after a measurement; empty where nothing held the clock back."""
    there = [clock for clock in readings if clock is not None]
    reasons = list(dict.fromkeys(reason for clock in there for reason in clock.reasons))
    if not reasons:
        return ""
    mhz = " -> ".join(str(clock.sm_mhz) for clock in there)
    return f"the clock was held back ({', '.join(reasons)}): {mhz} MHz before, amid and after the samples"
