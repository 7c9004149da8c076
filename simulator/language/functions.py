"""The functions of `nki.language` that compute: each allocates its result and issues instructions of `nki.isa`.

They never compute beside the instructions, so the trace shows what they cost, at the kernel's own line. Importing this
package fills `FUNCTIONS` and gives each operator that is also a function (nl.add, nl.exp) its call form.
"""

from triptych.simulator.language import (  # noqa: F401
    binary,
    creation,
    movement,
    normalization,
    program,
    randomness,
    reductions,
    rounding,
    unary,
)
from triptych.simulator.language.common import FUNCTIONS
from triptych.simulator.operands.operators import OPS

for _name, _function in FUNCTIONS.items():
    if _name in OPS:
        OPS[_name].wrapper = _function

__all__ = ["FUNCTIONS"]
