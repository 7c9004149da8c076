"""Arrays of NumPy, PyTorch and JAX: arguments become NumPy's, and outputs become the caller's.

Neither PyTorch nor JAX is imported here: a caller who has a tensor of theirs has imported them. Where the arguments of
one call mix kinds the outputs are PyTorch's or JAX's, as nki.jit looks for torch.Tensor, then jax.Array, then
np.ndarray (nki/api/nki/__init__.py, jit).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.simulator.dtypes import TABLE, Array, DType, dtype_of
from triptych.simulator.errors import KernelError, NkiValidationError

_INSTEAD = {"float64": "float32", "int64": "int32", "uint64": "uint32", "longdouble": "float32"}


class UnsupportedDtype(KernelError, TypeError):
    """An argument or an output has a dtype that the other side does not know."""


class NumPy:
    """Arrays whose bytes a kernel works on where they are."""

    name = "NumPy"
    what = "a read-only array"

    @staticmethod
    def owns(value: Any) -> bool:
        return isinstance(value, np.ndarray)

    @staticmethod
    def array(value: Any, argument: str) -> Array:
        """The argument as a NumPy array, on the same bytes where they can be shared."""
        return check_dtype(value, argument)

    @staticmethod
    def give(array: Array, dtype: DType, inputs: Sequence[Any], kernel: str) -> Any:
        """An output, in an array of its own, as the caller's kind."""
        return array.astype(bool) if dtype == "bool_" else array


class Torch:
    """PyTorch tensors on the CPU, on the same bytes, also for the dtypes that NumPy does not have."""

    name = "PyTorch"
    what = "a tensor whose memory cannot be written"

    @staticmethod
    def owns(value: Any) -> bool:
        torch = sys.modules.get("torch")
        return torch is not None and isinstance(value, torch.Tensor)

    @staticmethod
    def array(value: Any, argument: str) -> Array:
        torch = sys.modules["torch"]
        name = str(value.dtype).removeprefix("torch.")
        if name != "bool" and name not in TABLE:
            raise _unsupported(argument, name)
        if value.device.type != "cpu" or value.layout is not torch.strided:
            raise KernelError(
                f"argument {argument} is a {value.layout} tensor on {value.device}; give a dense one on the CPU, with "
                ".cpu() or .to_dense()"
            )
        tensor = value.detach()
        if name == "bool" or TABLE[name].np.isbuiltin == 1:
            return check_dtype(tensor.numpy(), argument)
        bits = {1: torch.uint8, 2: torch.int16}[value.element_size()]
        return check_dtype(tensor.view(bits).numpy().view(TABLE[name].np), argument)

    @staticmethod
    def give(array: Array, dtype: DType, inputs: Sequence[Any], kernel: str) -> Any:
        torch = sys.modules["torch"]
        if dtype == "bool_":
            return torch.from_numpy(array.astype(bool))
        if dtype.np.isbuiltin == 1:
            out = torch.from_numpy(array)
        else:
            known = getattr(torch, dtype, None)
            if known is None:
                raise UnsupportedDtype(
                    f"{kernel} returns {dtype}, which PyTorch {torch.__version__} does not have; return "
                    ".view(nl.uint8) of it"
                )
            out = torch.from_numpy(array.view({1: np.uint8, 2: np.int16}[array.itemsize])).view(known)
        needed = [t for t in inputs if Torch.owns(t) and t.requires_grad]
        return _no_derivative().apply(kernel, out, *needed) if needed else out


@functools.cache
def _no_derivative() -> Any:
    """An autograd function that hands an output on, and says in backward that a kernel has no derivative.

    AWS's way to train through a kernel is a torch.autograd.Function around it
    (nki/guides/framework_custom_op.rst), in whose forward no gradient is asked for. Elsewhere an output that is cut off
    from its inputs would train to nothing without a word.
    """
    torch = sys.modules["torch"]

    class KernelOutput(torch.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(ctx: Any, kernel: str, output: Any, *inputs: Any) -> Any:
            ctx.kernel = kernel
            return output.view_as(output)

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            raise KernelError(
                f"{ctx.kernel} is a kernel and has no derivative: wrap it in a torch.autograd.Function with a backward "
                "of its own, or call it under torch.no_grad()",
                source="nki/guides/framework_custom_op.rst",
            )

    return KernelOutput


class Jax:
    """JAX arrays, which are immutable: a kernel works on a copy."""

    name = "JAX"
    what = "a JAX array, which cannot change"

    @staticmethod
    def owns(value: Any) -> bool:
        jax = sys.modules.get("jax")
        return jax is not None and isinstance(value, jax.Array)

    @staticmethod
    def array(value: Any, argument: str) -> Array:
        if isinstance(value, sys.modules["jax"].core.Tracer):
            raise KernelError(
                f"argument {argument} is a tracer of jax.jit, jax.grad or jax.vmap, which has no values: the simulator "
                "runs on arrays; call it outside, or through jax.pure_callback"
            )
        if str(value.dtype) not in TABLE and value.dtype != bool:
            raise _unsupported(argument, str(value.dtype))
        return check_dtype(np.asarray(value), argument)

    @staticmethod
    def give(array: Array, dtype: DType, inputs: Sequence[Any], kernel: str) -> Any:
        return sys.modules["jax"].numpy.asarray(NumPy.give(array, dtype, inputs, kernel))


Framework = type[NumPy] | type[Torch] | type[Jax]
FRAMEWORKS: tuple[Framework, ...] = (Torch, Jax, NumPy)


def framework_of(value: Any) -> Framework | None:
    """Whose array `value` is; None if it is none."""
    return next((f for f in FRAMEWORKS if f.owns(value)), None)


def nki_dtype(value: Any) -> Any:
    """A JAX scalar type, as jnp.bfloat16, as the dtype of NKI; anything else as it is (release notes of 0.4.0)."""
    if isinstance(value, type) and type(value).__module__.startswith("jax.") and hasattr(value, "dtype"):
        try:
            return dtype_of(value.dtype)
        except NkiValidationError:
            raise UnsupportedDtype(f"jnp.{value.dtype} is not a dtype of NKI{_instead(str(value.dtype))}") from None
    return value


def check_dtype(array: Array, argument: str) -> Array:
    """`array`, whose dtype NKI has; one integer of 64 bits is a scalar."""
    if array.dtype == np.int64 and array.size == 1:
        return array
    try:
        dtype_of(array.dtype)
    except NkiValidationError:
        raise _unsupported(argument, str(array.dtype)) from None
    return array


def _unsupported(argument: str, name: str) -> UnsupportedDtype:
    return UnsupportedDtype(
        f"argument {argument} has dtype {name}, which is not a dtype of NKI{_instead(name)}",
        source="nki.language, data types",
    )


def _instead(name: str) -> str:
    return f"; cast it to {_INSTEAD[name]}" if name in _INSTEAD else ""
