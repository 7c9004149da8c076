"""`triptych.interpret`: Triton kernels run without a GPU for the length of a `with` block, in any test.

with triptych.interpret():
    y = my_wrapper(x)                         # as it is: x and y are tensors of PyTorch on the CPU
triptych.assert_agree(y, expected)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from triptych.harness import extras
from triptych.harness.emulators import UnsupportedVersionError, version_support


@contextmanager
def interpret() -> Iterator[None]:
    """Every launch of a Triton kernel within is interpreted, with its numerics made right, whoever makes it.

    Tensors of PyTorch lie on the CPU and say that they are on `cuda:0`. What reads or writes outside of them, or is not
    emulated, raises one sentence with the kernel's line. Triton is afterwards as before; `TRITON_INTERPRET` is not
    needed, and does no harm. The tensors that kernels were given live until the block ends.
    """
    sentence = version_support()
    if sentence is not None:
        raise UnsupportedVersionError(sentence)
    why = extras.why_not("torch")
    if why is not None:
        raise UnsupportedVersionError(f"triptych.interpret needs PyTorch, whose tensors kernels compute on: {why}")
    from triptych.harness.emulators.correction import CorrectedBuilder
    from triptych.harness.emulators.interpreter.hosting import on_the_host
    from triptych.harness.emulators.memory import Memory
    from triptych.harness.emulators.running import session

    memory = Memory()
    with session(CorrectedBuilder(memory)), on_the_host(memory):
        yield
