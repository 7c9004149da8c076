"""How one case on one backend ended, why, and what kind of machine says so: words that programs may compare."""

from __future__ import annotations

import enum


class Word(str, enum.Enum):
    """A string enumeration that prints as its value."""

    def __str__(self) -> str:
        return str(self.value)


class Status(Word):
    """How one case on one backend ended."""

    PASSED = "passed"
    FAILED = "failed"  # ran, and disagrees with the reference
    ERROR = "error"  # raised, crashed, wrote out of bounds, left output unwritten, returned a wrong shape
    TIMEOUT = "timeout"
    UNSUPPORTED = "unsupported"  # documented not to be done by the kernel or the hardware, or inputs that judge nothing
    SKIPPED = "skipped"  # the backend is not here, or was not asked; the reason says why


BAD = (Status.FAILED, Status.ERROR, Status.TIMEOUT)
RAN = (Status.PASSED, *BAD)


class Evidence(Word):
    """What kind of machine a number comes from. Speeds are ranked only within one kind."""

    REFERENCE = "reference"
    SIMULATED = "simulated"  # numbers computed by the NKI simulator
    PREDICTED = "predicted"  # a time computed by a model of the chip
    INTERPRETED = "interpreted"  # Triton's interpreter on a CPU
    DEVICE = "device"  # measured on an accelerator
    HOST = "host"  # measured on this CPU


class Cause(Word):
    """Why a case did not pass, for programs; the `reason` beside it is for people."""

    BACKEND_MISSING = "backend-missing"
    LEFT_OUT = "left-out"  # the run leaves it out unless the backend is named
    NOT_SUPPORTED = "not-supported"  # the op has no such panel, or the panel does not take the case
    INVALID_OP = "invalid-op"  # the op's declaration is at fault, or could not be loaded or prepared
    REFUSED_INPUTS = "refused-inputs"  # the reference raised ValueError
    UNINFORMATIVE_CASE = "uninformative-case"  # its reference would let a wrong kernel pass
    KERNEL_ERROR = "kernel-error"  # the kernel raised, or broke a rule that its backend enforces
    MALFORMED_OUTPUT = "malformed-output"  # no array, or one of another shape or dtype, or one that is not its own
    MISMATCH = "mismatch"  # the output is further off than the tolerance allows
    BROKEN_PROMISE = "broken-promise"  # a further run, or a part of the batch, has other bits or another result
    KEPT_STATE = "kept-state"  # the kernel keeps something from call to call, or calls its own reference
    OUT_OF_MEMORY = "out-of-memory"
    DEVICE_FAULT = "device-fault"  # the GPU or NeuronCore failed, and with it the process
    WORKER_DIED = "worker-died"
    TIME_LIMIT = "time-limit"
