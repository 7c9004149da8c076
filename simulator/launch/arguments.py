"""What crosses the border between a caller and a kernel: arguments on the way in, outputs on the way back.

Arrays of NumPy, PyTorch or JAX become tensors in HBM, also inside tuples, dicts and NKIObjects, and so do the shapes
that stand for them in a run without data; numbers, strings, None, enumerations and functions go through unchanged. An
NKIObject is copied by its dictionary, as the compiler does (nki/get-started/nki-language-guide.rst, Class Support), for
each core anew: what a kernel changes in it stays inside.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from triptych.simulator.errors import KernelError, NkiError, show_line
from triptych.simulator.language.annotations import Tensor
from triptych.simulator.launch.frameworks import FRAMEWORKS, NumPy, framework_of, nki_dtype
from triptych.simulator.lint.live import LintWarning
from triptych.simulator.machine.machine import Machine
from triptych.simulator.machine.registers import VirtualRegister
from triptych.simulator.machine.scalars import NkiScalar
from triptych.simulator.machine.unwritten import Origin, reached
from triptych.simulator.memory.shapes import ShapeDtype
from triptych.simulator.objects import NKIObject
from triptych.simulator.tensors.tensor import NkiTensor

_TUPLES = "nki/migration/index.rst, Replace list kernel arguments with tuples"


class Bound:
    """One array that the caller gave, and the tensor that a kernel has of it."""

    def __init__(self, given: Any, array: Any, tensor: NkiTensor) -> None:
        self.given = given
        self.array = array
        self.tensor = tensor

    def copied(self) -> bool:
        """Whether the tensor has bytes of its own: the array is not dense, widened, read-only or one of many ranks'."""
        return not np.shares_memory(self.tensor.array, self.array)

    def bring_back(self) -> bool:
        """Put the tensor's values into the array, unless they are there; False if it cannot be written."""
        new = self.tensor.array.astype(self.array.dtype)
        if np.array_equal(new.view(np.uint8), np.ascontiguousarray(self.array).view(np.uint8)):
            return True
        if not self.array.flags.writeable:
            return False
        self.array[...] = new
        return True


class Arguments:
    """The arguments of one rank's call of a kernel."""

    def __init__(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], machines: Sequence[Machine]
    ) -> None:
        self.function = function
        self.name = getattr(function, "__name__", "kernel")
        self.line = _definition(function)
        self.machine, self.machines = machines[0], machines
        self.data = self.machine.options.data
        self.bound: dict[str, Bound] = {}  # by what an error calls it: "a", "pair[0]", "config.weight"
        names = self._check_call(args, kwargs)
        self.calls: list[tuple[list[Any], dict[str, Any]]] = []
        for _ in machines:
            positional = [self._take(v, n) for v, n in zip(args, names, strict=True)]
            self.calls.append((positional, {k: self._take(v, k) for k, v in kwargs.items()}))
        owners = {framework_of(b.given) for b in self.bound.values()} - {NumPy, None}
        if len(owners) > 1:
            raise KernelError(f"{self.name} is given arrays of PyTorch and of JAX; outputs can be of one kind only")
        self.framework = next((f for f in FRAMEWORKS if f in owners), NumPy)

    def _check_call(self, args: Sequence[Any], kwargs: dict[str, Any]) -> list[str]:
        """The names of the positional arguments, of a call that the kernel's signature and declared shapes allow."""
        signature = inspect.signature(self.function)
        try:
            signature.bind(*args, **kwargs)
        except TypeError as e:
            raise KernelError(f"{self.name}{signature} cannot be called so: {e}") from None
        names: list[str] = []
        for p in signature.parameters.values():
            if p.kind is p.VAR_POSITIONAL:
                names += [f"{p.name}[{i}]" for i in range(len(args) - len(names))]
            elif len(names) < len(args):
                names.append(p.name)
        for name, value in (*zip(names, args, strict=True), *kwargs.items()):
            declared = signature.parameters[name].annotation if name in signature.parameters else None
            shape = tuple(getattr(value, "shape", ()))
            if isinstance(declared, Tensor) and shape != declared.shape:
                raise KernelError(f"argument {name} is declared {declared}, got shape {shape}", line=self.line)
        return names

    def _take(self, value: Any, name: str, inside: bool = False) -> Any:
        """`value` as a kernel gets it; `inside` an object a list is as good as a tuple."""
        if isinstance(value, (NkiTensor, VirtualRegister, NkiScalar)):
            raise KernelError(f"argument {name} is {value!r}, which lives inside another kernel", line=self.line)
        framework = framework_of(value)
        if framework is not None or isinstance(value, ShapeDtype):
            if name not in self.bound:
                shape = tuple(value.shape)
                if 0 in shape or not shape:
                    raise KernelError(f"argument {name} has shape {shape}; every axis needs at least one element")
                self.bound[name] = self._bind(value, framework.array(value, name) if framework else value, name)
            return self.bound[name].tensor
        if isinstance(value, list) and not inside and self.machine.options.lint:
            message = f"list-argument: argument {name} is a list, and a kernel takes tuples [{_TUPLES}]"
            warnings.warn_explicit(message, LintWarning, *self.line)
        if isinstance(value, (tuple, list)):
            items = [self._take(v, f"{name}[{i}]", inside) for i, v in enumerate(value)]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        if isinstance(value, dict):
            return {k: self._take(v, f"{name}[{k!r}]", inside) for k, v in value.items()}
        if isinstance(value, NKIObject):
            copy = object.__new__(type(value))
            copy.__dict__.update({k: self._take(v, f"{name}.{k}", True) for k, v in value.__dict__.items()})
            return copy
        return nki_dtype(value)

    def _bind(self, given: Any, array: Any, name: str) -> Bound:
        if not self.data:
            return Bound(given, array, self.machine.input(array, name))
        # Each rank has its own HBM. A bool array is copied, too: a kernel may store other bytes than 0 and 1, which
        # NumPy's bool does not allow.
        own = self.machine.ranks > 1 or array.dtype == bool
        return Bound(given, array, self.machine.input(array.copy() if own else array, name))

    def written(self) -> list[Bound]:
        """The arguments that live in a copy and that the kernel wrote to."""
        copies = [b for b in self.bound.values() if self.data and b.copied()]
        if not copies:
            return []
        ids = {region.allocation.id for event in self.machine.trace.events for region in event.writes}
        return [b for b in copies if b.tensor.storage.allocation.id in ids]

    def outputs(self, result: Any) -> Any:
        """What the kernel returned, as the caller's kind of arrays; inputs that it wrote to are brought up to date."""
        returned: list[NkiTensor] = []
        outputs = self._output(result, returned)
        self._check_changed()
        for b in self.written():
            kept = any(t.storage is b.tensor.storage for t in returned)
            if not b.bring_back() and not kept:
                framework = next(f for f in FRAMEWORKS if f.owns(b.given))
                raise KernelError(
                    f"{self.name} writes to its argument {b.tensor.name}, which is {framework.what}; return the tensor "
                    "to have its new values",
                    line=self.line,
                )
        return outputs

    def _output(self, result: Any, returned: list[NkiTensor], nested: bool = False) -> Any:
        """Tensors of a result as arrays, in the tuples, lists and dicts that they came in."""
        if isinstance(result, (tuple, list)):
            items = [self._output(r, returned, nested=True) for r in result]
            return type(result)(*items) if hasattr(result, "_fields") else type(result)(items)
        if isinstance(result, dict):
            return {k: self._output(r, returned, nested=True) for k, r in result.items()}
        if result is None and (nested or self._writes_an_argument()):
            return None
        returned.append(self._checked(result))
        dtype = result.dtype
        if not self.data:
            return ShapeDtype(result.shape, dtype)
        array = result.array
        if array.dtype != dtype.np:
            array = array.astype(dtype.np)
        elif not self._owned(result, returned):
            array = array.copy()
        return self.framework.give(array, dtype, [b.given for b in self.bound.values()], self.name)

    def _owned(self, result: NkiTensor, returned: list[NkiTensor]) -> bool:
        """Whether a returned tensor is all of a memory that neither an argument nor another output lies in."""
        storage = result.storage
        others = sum(t.storage is storage for t in returned) > 1
        argument = any(b.tensor.storage is storage for b in self.bound.values())
        return result.array.nbytes == storage.nbytes and not others and not argument

    def _writes_an_argument(self) -> bool:
        ids = {b.tensor.storage.allocation.id for b in self.bound.values()}
        return any(region.allocation.id in ids for e in self.machine.trace.events for region in e.writes)

    def _checked(self, result: Any) -> NkiTensor:
        """A returned tensor, checked to be an HBM tensor with every element written."""
        if result is None:
            raise KernelError(f"{self.name} returns None and writes to none of its arguments", line=self.line)
        if not isinstance(result, NkiTensor):
            raise KernelError(f"{self.name} must return HBM tensors, got {type(result).__name__}", line=self.line)
        if result.buffer.on_chip:
            raise KernelError(
                f"{self.name} returns {result.name!r} in {result.buffer.value}; an output is a tensor in nl.shared_hbm",
                line=self.line,
            )
        if result.storage.missing and self.machine.options.check_uninitialized:
            raise self._unwritten(result)
        return result

    def _check_changed(self) -> None:
        """Nothing that the kernel wrote to an argument rests on memory that nothing wrote."""
        for name, b in self.bound.items() if self.machine.options.check_uninitialized else ():
            for origin in self._origins(b.tensor) if b.tensor.storage.missing else ():
                raise reached(f"what {self.name} writes to its argument {name}", origin)

    def _origins(self, t: NkiTensor) -> list[Origin]:
        """Where each core that put unwritten values into a tensor read them first."""
        number = t.storage.allocation.id
        return [m.origins[number] for m in self.machines if number in m.origins]

    def _unwritten(self, result: NkiTensor) -> NkiError:
        a = result.storage.allocation
        first, missing = result.storage.first_missing()
        index = [int(i) for i in np.unravel_index(first, a.shape)]
        for origin in self._origins(result):
            what = f"{missing} of {math.prod(a.shape)} elements of {a.name!r} {a.shape}, which {self.name} returns"
            return reached(f"what stands in {what}, first at {index},", origin)
        return KernelError(
            f"{self.name} returns {a.name!r} {a.shape} (allocated at {show_line(a.line)}) with {missing} of "
            f"{math.prod(a.shape)} elements never written, first at {index}",
            line=self.line,
        )


def leaves(value: Any) -> Iterator[Any]:
    """All that stands in tuples, lists, dicts and NKIObjects; a tensor, which is one too, is whole."""
    if isinstance(value, NKIObject) and not isinstance(value, NkiTensor):
        value = value.__dict__
    if isinstance(value, (tuple, list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)
    else:
        yield value


def lacks_data(value: Any) -> bool:
    """Whether a stand-in is among a kernel's arguments."""
    return any(isinstance(leaf, ShapeDtype) for leaf in leaves(value))


def _definition(function: Callable[..., Any]) -> tuple[str, int]:
    """(file, line) where a kernel is defined; of a callable object, where its class's __call__ is."""
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code else ("?", 0)
