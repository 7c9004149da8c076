"""Which modules make up `nki`, which older ones kernels still import, and how the simulator's own are called."""

from __future__ import annotations

CURRENT = ("nki", "nki.isa", "nki.language", "nki.collectives", "nki.typing", "nki.compiler", "nki.simulator")
OLDER = ("nki.dtype", "nki.isa.constants")  # of NKI 0.3 (triptych.simulator.api.older)
COMPILER = ("neuronxcc", "neuronxcc.nki", "neuronxcc.nki.typing")  # of AWS's compiler, whose kernels annotate with it
TORCH = ("torch_neuronx", "torch_neuronx.nki_hop")  # of AWS's PyTorch, by which kernels become operators
TORCH_LITE = ("libtorch_neuronx_lite", "libtorch_neuronx_lite.nki", "libtorch_neuronx_lite.nki.nki_hop")
SIMULATED = (*CURRENT, *OLDER)
SERVED = (*SIMULATED, *COMPILER, *TORCH, *TORCH_LITE)
OPERATORS = (*TORCH, TORCH_LITE[-1])  # those that have nki_op and wrap_nki
SWAPPED = ("nki", TORCH[0], TORCH_LITE[0])  # which a kernel file gets of the simulator whatever is installed
TOPS = ("neuronxcc", *SWAPPED)
OWN = "triptych."  # before the name of a module that is the simulator's even where AWS's nki is installed


def modern(name: str) -> str:
    """The module of NKI behind a name of AWS's compiler: neuronxcc.nki.isa -> nki.isa, where there is one."""
    name = name.removeprefix("neuronxcc.")
    return name if name in CURRENT and name != "nki.compiler" else "nki"  # which 0.7 has for other things


def documented(name: str) -> str:
    """A dotted name as AWS documents it: triptych.nki.isa.memset -> nki.isa.memset. Other names stay as they are."""
    inner = name.removeprefix(OWN)
    return inner if inner == "nki" or inner.startswith("nki.") else name
