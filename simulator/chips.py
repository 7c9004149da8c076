"""The chips as data: one frozen record per NeuronCore generation, each number with unit, source and how it is known.

inf2 has one of its own, which differs in one number from that of its generation.

`documented` is said by AWS's documentation (aws-neuron/aws-neuron-sdk at 81ce03ae, paths relative to it), `measured` is
read off a device by the cited source, `assumed` is our reading where both are silent. Where documents conflict, the
source says which was taken and why.
"""

from __future__ import annotations

import os

from triptych.simulator.chip.record import Chip
from triptych.simulator.chip.v2 import INF2, NC_V2
from triptych.simulator.chip.v3 import NC_V3
from triptych.simulator.chip.v4 import NC_V4
from triptych.simulator.errors import KernelError

CHIPS = (NC_V2, NC_V3, NC_V4)
TARGETS = {target: chip for chip in CHIPS for target in chip.targets} | {"inf2": INF2}


def chip_of(target: str) -> Chip:
    """The record of `target`: trn1, inf2, trn2, trn3, or gen2, gen3, gen4."""
    if target not in TARGETS:
        raise KernelError(f"target {target!r} is unknown; expected one of {', '.join(TARGETS)}")
    return TARGETS[target]


def default_target() -> str:
    """The target of NEURON_PLATFORM_TARGET_OVERRIDE, or trn3 as AWS's simulator takes without a chip."""
    target = os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE") or "trn3"
    if target not in TARGETS:
        raise KernelError(f"NEURON_PLATFORM_TARGET_OVERRIDE is {target!r}; expected one of {', '.join(TARGETS)}")
    return target
