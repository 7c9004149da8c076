"""What an exception means for a task: its status, its cause, and one sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from triptych.harness.backends.base import Backend, KernelFault, file_of
from triptych.harness.emulators.errors import NotEmulated
from triptych.harness.errors import describe, message_of
from triptych.harness.ops import loading
from triptych.harness.ops.errors import InvalidOp, UninformativeCase
from triptych.harness.ops.op import Op
from triptych.harness.ops.outputs.kinds import MalformedOutput
from triptych.harness.results.status import Cause, Status
from triptych.harness.running import memory_limit

GPU_FAULT = re.compile(r"(CUDA|HIP) error|Triton Error \[(CUDA|HIP)\]|CUDNN_STATUS|CUBLAS_STATUS|\bNRT\b|\bnrt_")


class NotSupported(Exception):
    """The op's panel does not take the case; one sentence."""


@dataclass(frozen=True)
class Ended:
    """How a task ended that did not run to its end."""

    status: Status
    cause: Cause
    reason: str
    unfit: bool = False  # whether the process is unfit for another case


def explain_preparation(error: BaseException, source: str | None, memory: int | None) -> Ended:
    """What it means if a case could not be prepared.

    source: the user's file that declares the op.
    memory: the limit of this process in bytes.
    """
    if isinstance(error, NotSupported):
        return Ended(Status.UNSUPPORTED, Cause.NOT_SUPPORTED, str(error))
    if isinstance(error, InvalidOp):
        unsuitable = isinstance(error, UninformativeCase) and error.unsuitable
        return Ended(Status.UNSUPPORTED if unsuitable else Status.ERROR, error.cause, str(error))
    if isinstance(error, loading.OpFileError):
        return Ended(Status.ERROR, Cause.INVALID_OP, str(error))
    failed = "the case could not be prepared"
    if out_of_memory(error):
        return Ended(Status.ERROR, Cause.OUT_OF_MEMORY, f"{failed}: {memory_limit.in_words(memory)}", unfit=True)
    place = loading.at(error, Path(source).resolve()) if source else ""
    return Ended(Status.ERROR, Cause.INVALID_OP, f"{failed}: {describe(error)}{place}")


def explain_run(error: BaseException, op: Op, backend: Backend, memory: int | None) -> Ended:
    """What it means if a kernel, or what is done with it, raised."""
    if out_of_memory(error):
        reason = f"the kernel ran out of memory: {memory_limit.in_words(memory)}"
        return Ended(Status.ERROR, Cause.OUT_OF_MEMORY, reason, unfit=True)
    if isinstance(error, MalformedOutput):
        return Ended(Status.ERROR, Cause.MALFORMED_OUTPUT, str(error))
    reason = kernel_fault(error, op, backend)
    if isinstance(error, NotEmulated):
        return Ended(Status.UNSUPPORTED, Cause.NOT_SUPPORTED, reason)
    if GPU_FAULT.search(f"{type(error).__name__}: {message_of(error)}"):
        return Ended(Status.ERROR, Cause.DEVICE_FAULT, f"{reason}; the next case gets a new process", unfit=True)
    return Ended(Status.ERROR, error.cause if isinstance(error, InvalidOp) else Cause.KERNEL_ERROR, reason)


def kernel_fault(error: BaseException, op: Op, backend: Backend) -> str:
    """One sentence on an exception that came out of a kernel."""
    if isinstance(error, (KernelFault, InvalidOp, MalformedOutput)):
        return str(error)
    if isinstance(error, backend.spoken_errors()):
        return str(error)
    return f"the kernel raised {describe(error)}{loading.at(error, file_of(getattr(op, backend.panel)))}"


def out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "can't allocate memory" in message_of(error)  # PyTorch's RuntimeError
