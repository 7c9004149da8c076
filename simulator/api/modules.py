"""Which modules make up `nki`, and which older ones kernels still import."""

from __future__ import annotations

CURRENT = ("nki", "nki.isa", "nki.language", "nki.collectives", "nki.typing")
OLDER = ("nki.dtype", "nki.isa.constants")  # of NKI 0.3 (triptych.simulator.api.older)
COMPILER = ("neuronxcc", "neuronxcc.nki", "neuronxcc.nki.typing")  # of AWS's compiler, whose kernels annotate with it
SERVED = (*CURRENT, *OLDER, *COMPILER)
PACKAGES = {name.rpartition(".")[0] for name in SERVED}


def modern(name: str) -> str:
    """The module of NKI 0.6 behind a name of AWS's compiler: neuronxcc.nki.isa -> nki.isa, where there is one."""
    name = name.removeprefix("neuronxcc.")
    return name if name in CURRENT else "nki"
