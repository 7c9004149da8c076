"""What the harness calls an array, and how PyTorch's tensors become arrays and back."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from triptych.harness.dtypes import dtype_of

Array = NDArray[Any]
Arrays = dict[str, Array]


def from_torch(tensor: Any) -> Array:
    """A tensor's numbers in the same dtype, in place where it is on the CPU.

    NumPy has no bfloat16 or float8 of its own, so that PyTorch does not hand them over; their bytes do. A bool becomes
    an 8-bit integer.
    """
    import torch

    here = tensor.detach().cpu().resolve_neg()
    name = str(here.dtype).removeprefix("torch.")
    if here.dtype == torch.bool:
        name = "uint8"
    size = here.element_size()
    bits: Array = here.view(getattr(torch, f"int{8 * size}") if size > 1 else torch.uint8).numpy()
    return bits.view(dtype_of(name))


def to_torch(x: Array, device: str) -> Any:
    """An array, ml_dtypes' dtypes included, as a tensor on `device`."""
    import torch

    if x.dtype.kind == "V":
        return torch.from_numpy(x.view(f"i{x.dtype.itemsize}")).view(getattr(torch, x.dtype.name)).to(device)
    return torch.from_numpy(x).to(device)
