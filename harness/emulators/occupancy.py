"""How many programs of a compiled kernel fit on a processor at once, and what keeps more of them out."""

from __future__ import annotations

from dataclasses import dataclass

from triptych.harness.emulators.devices import Device


@dataclass(frozen=True)
class Occupancy:
    """An upper bound: a launch with few programs fills less."""

    programs: int  # on a multiprocessor or compute unit; 0: the kernel cannot be launched
    share: float  # of the warps that could be resident
    limit: str  # what sets it: "registers", "shared memory", "Tensor Memory", "warps" or "programs"


def occupancy(
    device: Device, *, registers: int, shared_bytes: int, num_warps: int, tensor_columns: int = 0
) -> Occupancy:
    """The bound for a kernel that takes so much of each.

    programs = min over resources of floor(what a processor has / what a program takes), each in the portions in which
    the hardware gives it (`devices.Processor`); share = programs * num_warps / the most warps.

    Parameters:
        registers: of a thread.
        shared_bytes, num_warps, tensor_columns: of a program.
    """
    has = device.processor
    of_warp = in_portions(max(registers, 1) * device.warp_size, has.register_portion)
    most_warps = has.warps * has.units
    fits = {
        "warps": most_warps // num_warps,
        "programs": has.programs,
        "registers": has.registers // of_warp * has.units // num_warps,
    }
    if shared_bytes > device.shared_bytes:
        fits["shared memory"] = 0
    elif shared_bytes:
        fits["shared memory"] = has.shared_bytes // in_portions(shared_bytes + has.reserved_bytes, has.shared_portion)
    if tensor_columns:
        fits["Tensor Memory"] = has.tensor_columns // tensor_columns
    limit = min(fits, key=lambda name: fits[name])
    return Occupancy(fits[limit], fits[limit] * num_warps / most_warps, limit)


def in_portions(amount: int, portion: int) -> int:
    """`amount`, rounded up to whole portions."""
    return -(-amount // portion) * portion
