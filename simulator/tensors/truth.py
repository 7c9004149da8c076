"""What a kernel means that asks for the truth of a tensor: `if t:`, `assert nl.equal(a, b)`.

AWS's kernels ask in this way whether an optional operand was given (nki-library, core/mlp/mlp_tkg). What a comparison
gives is asked for otherwise: 43 examples of the API say `assert nl.equal(c, expected)`
(nki/api/nki/language/__init__.py). Such an assertion holds here if every element does, as nki.simulate knows them too;
a branch on it is an error, because a compiler cannot take it.
"""

from __future__ import annotations

import linecache

from triptych.simulator.errors import NkiValidationError, kernel_line
from triptych.simulator.running import is_running, running


def asserts_values(t: object, is_comparison: bool) -> bool:
    """Whether the kernel's statement is an assertion on what `t` holds, rather than a question whether `t` is there.

    Either is noted. A branch on values that the compiler does not know raises NkiValidationError.
    """
    line = kernel_line()
    statement = linecache.getline(*line).lstrip()
    compared = is_comparison and is_running()
    if statement.startswith("while ") or (compared and statement and not statement.startswith("assert")):
        raise NkiValidationError(
            f"a branch on {t!r}: what a tensor holds is not known while a kernel is built; loop on a "
            "register, or choose elements with nl.where",
            source="nki/get-started/nki-language-guide.rst",
        )
    if compared:
        running().note("an assertion on what a tensor holds is checked in simulation only", line)
    elif is_running():
        running().note(f"the truth of {t!r} is that it is there, not what it holds; write `!= None`", line)
    return compared
