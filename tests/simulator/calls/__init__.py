"""A valid call of every instruction.

`CALLS[name](p, f)` is the call on p partitions and about f elements each. What holds for all instructions alike is
tested over this table in test_every_instruction.py.
"""

from calls import elementwise, gpsimd, matrices, reductions, selections
from calls.model import CALLS, Call, Operand

# register_move has no tensor, sendrecv(_compute) and core_barrier need two cores, scalars are of two dtypes alone:
# test_registers.py, test_multicore.py, test_scalars.py.
WITHOUT = {"register_move", "sendrecv", "sendrecv_compute", "core_barrier", "scalar_load", "scalar_store"}

__all__ = ["CALLS", "WITHOUT", "Call", "Operand", "elementwise", "gpsimd", "matrices", "reductions", "selections"]
