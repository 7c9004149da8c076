"""PyTorch as a launcher sees it where there is no GPU: tensors lie on the CPU and say that they are on `cuda:0`.

`HostTensors` stands between the launcher and PyTorch for the time of a session. What it changes, and nothing else:

* a tensor's address is a number in the emulator's memory, where each storage is far from every other, so that pointers
  that a launcher puts into a table are checked as those that it hands over;
* a tensor is on `cuda:0`, and what is asked to be on a GPU or moved there stays where it is;
* memory that nothing was written to (`torch.empty`, `empty_like`, `new_empty`, ..) holds NaN, as `harness/unwritten.py`
  has it, so that a kernel that reads it before it is written gives NaN; integers hold a large number, bools hold true;
* `torch.cuda` knows one device, whose streams and events do nothing, for a launch ends before the next one starts.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from triptych.harness.arrays import Array, from_torch
from triptych.harness.dtypes import dtype_of
from triptych.harness.emulators.devices import Device
from triptych.harness.emulators.memory import Memory, Region, described
from triptych.harness.unwritten import fill

CUDA = torch.device("cuda", 0)
EMPTY = {
    torch.empty,
    torch.empty_like,
    torch.empty_strided,
    torch.empty_permuted,
    torch.Tensor.new_empty,
    torch.Tensor.new_empty_strided,
}
STAYS = {torch.Tensor.cuda, torch.Tensor.pin_memory}
ANSWERS: dict[Any, Any] = {
    torch.Tensor.is_cuda.__get__: True,
    torch.Tensor.is_cpu.__get__: False,
    torch.Tensor.device.__get__: CUDA,
    torch.Tensor.get_device: 0,
    torch.Tensor.record_stream: None,
    torch.Tensor.is_pinned: False,
}


class HostTensors(TorchFunctionMode):  # type: ignore[misc]  # PyTorch's types are not followed
    """PyTorch on the CPU, which says that it is on a GPU."""

    def __init__(self, memory: Memory, device: str = "cpu") -> None:
        """device: where tensors really are: "cpu", or "meta" for ones that have shapes alone."""
        super().__init__()
        self.memory, self.place = memory, torch.device(device)
        memory.address_of = self.address  # of launches within an operator of PyTorch, too, where no mode is on
        self._regions: dict[int, tuple[Region, Any]] = {}  # by a storage's address, with the storage, which thus lives

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.Tensor.data_ptr:
            return self.address(args[0])
        if function in ANSWERS:
            return ANSWERS[function]
        if function in STAYS:
            return args[0]
        if function is torch.device:
            return function(*args, **(kwargs or {}))
        named = {name: self._here(value) for name, value in (kwargs or {}).items() if name != "pin_memory"}
        result = function(*map(self._here, args), **named)
        if function in EMPTY and self.place.type == "cpu":
            _poison(result)
        return result

    def running_backward(self, engine: Callable[..., Any]) -> Callable[..., Any]:
        """PyTorch's engine of gradients, which would call the backward functions of users outside of this mode."""

        def run(*args: Any, **named: Any) -> Any:
            with self:
                return engine(*args, **named)

        return run

    def _here(self, value: Any) -> Any:
        """An argument that means the GPU means the place where tensors are."""
        gpu = isinstance(value, torch.device) and value.type in ("cuda", "xpu")
        return self.place if gpu or (isinstance(value, str) and value.partition(":")[0] == "cuda") else value

    def add(self, name: str, tensor: Any, writable: bool) -> Region:
        """Give the storage of a tensor a region of its own."""
        storage = tensor.untyped_storage()
        whole = torch.empty(0, dtype=torch.uint8, device=self.place).set_(storage)
        data = np.empty(0, np.uint8) if self.place.type == "meta" else whole.numpy()
        region = self.memory.add(name, data, writable, described(tensor.numel(), tensor.shape))
        self._regions[_key(tensor)] = region, storage
        return region

    def shape_only(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
        """A tensor that can be asked for its shape, strides and address, and not be read."""
        return torch.empty(shape, dtype=getattr(torch, dtype.name), device=self.place)

    def address(self, tensor: Any) -> int:
        """Where a tensor begins in the emulator's memory."""
        found = self._regions.get(_key(tensor))
        region = found[0] if found else self.add("", tensor, writable=True)
        return int(region.address + tensor.storage_offset() * tensor.element_size())


def _key(tensor: Any) -> int:
    storage = tensor.untyped_storage()
    return int(storage._cdata if tensor.device.type == "meta" else storage.data_ptr())


def _poison(tensor: Any) -> None:
    whole = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
    if whole.numel() and not tensor.dtype.is_complex:
        fill(whole.numpy(), np.dtype(bool) if tensor.dtype == torch.bool else dtype_of(str(tensor.dtype)[6:]))


def tensor_of(array: Array) -> Any:
    """A tensor on the bytes of `array`, also of a dtype not NumPy's own; on a copy where they are read-only."""
    if any(s < 0 or s % array.itemsize for s in array.strides) or not array.flags.writeable:
        array = array.copy()
    bits = array.view(f"i{array.itemsize}") if array.itemsize > 1 else array.view(np.uint8)
    return torch.from_numpy(bits).view(getattr(torch, array.dtype.name))


def array_of(tensor: Any) -> Array:
    """The numbers of a tensor that a launcher returned, in an array of its own."""
    return from_torch(tensor).copy()


class _Stream:
    """A stream, or an event, that is done at once."""

    cuda_stream = 0

    def __init__(self, *args: Any, **named: Any) -> None:
        pass

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def nothing(self, *args: Any, **named: Any) -> Any:
        return self

    synchronize = wait_stream = wait_event = record_event = record = wait = nothing

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: Any) -> float:
        return 0.0


def cuda_names(device: Device) -> dict[str, Callable[..., Any]]:
    """What `torch.cuda` holds while a launcher is told that it runs on `device`."""
    properties = types.SimpleNamespace(
        name="emulated",
        major=9,
        minor=0,
        multi_processor_count=device.processors,
        warp_size=device.warp_size,
        shared_memory_per_block_optin=device.shared_bytes,
        total_memory=2**36,
    )
    stream = _Stream()
    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "get_device_name": lambda device=None: properties.name,
        "get_device_capability": lambda device=None: (properties.major, properties.minor),
        "get_device_properties": lambda device=None: properties,
        "device": lambda device: contextlib.nullcontext(),
        "device_of": lambda tensor: contextlib.nullcontext(),
        "stream": lambda stream: contextlib.nullcontext(),
        "current_stream": lambda device=None: stream,
        "default_stream": lambda device=None: stream,
        "is_current_stream_capturing": lambda: False,
        "Stream": _Stream,
        "Event": _Stream,
    }
