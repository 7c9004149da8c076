"""What can go wrong in an emulated kernel, each as one sentence that names the argument and the place."""

from __future__ import annotations


class EmulationError(RuntimeError):
    """A kernel did what hardware leaves undefined, or what the emulation does not cover."""


class OutOfBoundsError(EmulationError):
    """A lane whose mask is on read or wrote outside every argument."""


class ReadOnlyError(EmulationError):
    """The kernel stored into one of its inputs."""


class KernelRaised(EmulationError):
    """The kernel, or its launcher, raised."""


class OrderError(EmulationError):
    """Programs run in reverse order reached an atomic operation: they may wait for others that come later now."""


class UnsupportedVersionError(EmulationError):
    """The installed Triton is not one whose interpreter the correction was tested with."""


class NotEmulated(EmulationError):
    """The kernel may be right; the emulation has not what it uses."""
