"""How many programs fit: by hand, and as NVIDIA's own calculator (cuda_occupancy.h) has it for the same numbers."""

from __future__ import annotations

import pytest

from triptych.harness.emulators.devices import DEVICES
from triptych.harness.emulators.occupancy import occupancy


@pytest.mark.parametrize(
    ("target", "registers", "shared", "warps", "columns", "programs", "limit"),
    [
        ("sm_90", 32, 0, 1, 0, 32, "programs"),
        ("sm_90", 32, 0, 4, 0, 16, "warps"),
        ("sm_90", 33, 0, 4, 0, 12, "registers"),  # 1056 of a warp become 1280: 12 warps of each sub-partition
        ("sm_90", 255, 0, 8, 0, 1, "registers"),
        ("sm_90", 255, 0, 16, 0, 0, "registers"),
        ("sm_90", 64, 64 * 1024, 4, 0, 3, "shared memory"),  # and 1 KiB each
        ("sm_90", 64, 75 * 1024, 4, 0, 3, "shared memory"),
        ("sm_90", 64, 75 * 1024 + 1, 4, 0, 2, "shared memory"),
        ("sm_80", 64, 163 * 1024, 4, 0, 1, "shared memory"),
        ("sm_80", 64, 163 * 1024 + 1, 4, 0, 0, "shared memory"),
        ("sm_100", 64, 16 * 1024, 4, 256, 2, "Tensor Memory"),
        ("gfx942", 128, 0, 4, 0, 4, "registers"),  # 4 waves of 128 registers in each SIMD unit's 512
        ("gfx942", 129, 0, 4, 0, 3, "registers"),
        ("gfx942", 16, 32 * 1024, 4, 0, 2, "shared memory"),
    ],
)
def test_what_is_scarcest_decides(target, registers, shared, warps, columns, programs, limit) -> None:
    device = DEVICES[target]
    found = occupancy(device, registers=registers, shared_bytes=shared, num_warps=warps, tensor_columns=columns)
    assert (found.programs, found.limit) == (programs, limit)
    assert found.share == programs * warps / (32 if target == "gfx942" else 64)
