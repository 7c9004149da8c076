"""What a model would do on a chip: which of its operations a kernel serves and how long each takes, and what is left.

The model runs once, kernelized; operators give zeros of the right shapes instead of computing, and each that is met is
predicted by the timing model from its shapes. A model and inputs on the device "meta" need no memory at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from triptych import simulator
from triptych.harness.dtypes import dtype_of
from triptych.harness.functions.calls import calls
from triptych.harness.functions.rows import listed, simulated
from triptych.harness.pytorch.kernelize import kernelize
from triptych.harness.pytorch.operators import NAMESPACE, OPERATORS
from triptych.harness.reports.text_table import text_table
from triptych.simulator import ShapeDtype
from triptych.simulator.chip.record import NOT_ONCE

Arrays = tuple[tuple[str, tuple[int, ...], str], ...]  # (name, shape, dtype)
MAKES_NO_NUMBERS = ("empty", "equal", "_unsafe_view", "lift_fresh", "detach", "alias", "_local_scalar")
LOOKUPS = ("embedding", "gather", "index", "index_select")  # read as much as they write


@dataclass(frozen=True)
class Met:
    """A call of an operator, by what its time depends on."""

    operator: str
    row: str
    arrays: Arrays
    params: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        shapes = ", ".join(f"{name}{list(shape)}" for name, shape, _ in self.arrays)
        params = ", ".join(f"{name}={value}" for name, value in self.params)
        return f"{shapes} {self.arrays[0][2]}" + (f", {params}" if params else "")


@dataclass(frozen=True)
class Served:
    """A kernel's calls of one kind: `us` is the predicted time of one, without launch and teardown.

    us: None where the kernel refuses the call or the chip; `why` says so.
    """

    met: Met
    calls: int
    us: float | None
    why: str = ""

    @property
    def total_us(self) -> float:
        return self.calls * (self.us or 0.0)


@dataclass(frozen=True)
class Left:
    """An operation that PyTorch does itself: how often, and the bytes of what it read and wrote."""

    function: str
    calls: int
    bytes: int


@dataclass(frozen=True)
class Profile:
    """What `profile` found; printed as two tables.

    refused: functions that a kernel was meant for and could not take: (name, why) -> calls.
    """

    target: str
    served: Sequence[Served]
    left: Sequence[Left]
    refused: Mapping[tuple[str, str], int]
    launch_us: float  # launch and teardown of one program

    @property
    def total_us(self) -> float:
        """All kernels after each other, as parts of one program."""
        return self.launch_us + sum(one.total_us for one in self.served)

    def __str__(self) -> str:
        total = sum(one.total_us for one in self.served) or 1.0
        lines = [
            f"on {self.target}, predicted: {self.total_us:,.1f} us in kernels, of which a launch {self.launch_us:,.1f}"
        ]
        table = [["kernel", "calls", "us each", "us", "share", "arrays"]]
        for one in self.served:
            each = "refused" if one.us is None else f"{one.us:,.1f}"
            share = f"{one.total_us / total:.0%}"
            table.append([one.met.operator, str(one.calls), each, f"{one.total_us:,.1f}", share, str(one.met)])
        lines += text_table(table, right=(1, 2, 3, 4), rule=True) if self.served else ["no operation has a kernel"]
        lines += [f"{one.met.operator}: {one.why}" for one in self.served if one.why]
        lines += ["", "left to PyTorch"]
        table = [["operation", "calls", "MB moved"]]
        table += [[one.function, str(one.calls), f"{one.bytes / 1e6:,.3f}"] for one in self.left]
        lines += text_table(table, right=(1, 2), rule=True) if self.left else ["nothing"]
        lines += [f"{name}, {count} x: {why}" for (name, why), count in self.refused.items()]
        return "\n".join(lines)


def profile(model: nn.Module, inputs: Any, *, target: str = "trn2", backward: bool = False) -> Profile:
    """Which operations of `model(*inputs)` our kernels serve, their predicted times, and what is left to PyTorch.

    Parameters:
        inputs: a tuple of positional arguments, a mapping of keyword arguments, or one tensor.
        target: the chip, as "trn2".
        backward: whether the gradients of its parameters are computed too, of the loss that it returns: a scalar, or
            what has a scalar as its attribute `loss`. The parameters' own `grad` stays as it is.

    The model runs once, as it is: in training mode or not, on its device. Its kernels are
    not run, so that a model that chooses its path by numbers that it has computed is followed on zeros. Times are those
    of kernels one after the other; what PyTorch does itself is not predicted.

    Raises ValueError for a chip that does not exist, or a model that returns no loss where its gradients are asked for.
    """
    try:
        chip = simulator.TARGETS[target]
    except KeyError:
        raise ValueError(f"there is no target {target!r}; there is {', '.join(simulator.TARGETS)}") from None
    args: tuple[Any, ...] = () if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else (inputs,)
    kwargs = dict(inputs) if isinstance(inputs, Mapping) else {}
    with kernelize(model), calls() as made, torch.set_grad_enabled(backward), Watching() as seen:
        returned = model(*args, **kwargs)
        if backward:
            learned = [p for p in model.parameters() if p.requires_grad]
            torch.autograd.grad(loss_of(returned), learned, allow_unused=True)
    served = [predicted(met, count, target) for met, count in seen.met.items()]
    left = [Left(name, count, seen.bytes[name]) for name, count in seen.left.items()]
    return Profile(
        target,
        sorted(served, key=lambda one: -one.total_us),
        sorted(left, key=lambda one: -one.bytes),
        dict(made.left),
        chip.once_us,
    )


def loss_of(returned: Any) -> Tensor:
    """The loss that a model returned."""
    loss = returned if isinstance(returned, Tensor) else getattr(returned, "loss", None)
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        found = tuple(loss.shape) if isinstance(loss, Tensor) else type(returned).__name__
        raise ValueError(
            f"backward=True needs a model that returns a loss, a scalar that depends on its parameters: {found}"
        )
    return loss


@dataclass
class Watching(TorchDispatchMode):  # type: ignore[misc]
    """Within, operators of ours give zeros and are noted, and so is what else computes."""

    met: Counter[Met] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == NAMESPACE:
            operator = OPERATORS[func._schema.name.partition("::")[2]]
            given = operator.given(args, kwargs)
            arrays = tuple(
                (name, tuple(x.shape), str(x.dtype).removeprefix("torch."))
                for name, x in given.items()
                if isinstance(x, Tensor)
            )
            params = {name: x for name, x in given.items() if not isinstance(x, Tensor)} | dict(operator.params)
            self.met[Met(operator.name, operator.row_of(given), arrays, tuple(params.items()))] += 1
            found = [x.zero_() for x in listed(operator.empty(*args, **kwargs))]
            return found[0] if len(found) == 1 else tuple(found)
        out = func(*args, **kwargs)
        is_view = any(one.alias_info is not None and not one.alias_info.is_write for one in func._schema.returns)
        name = func._schema.name.partition("::")[2]
        if not is_view and not name.startswith(MAKES_NO_NUMBERS):
            self.left[name] += 1
            read = out if name in LOOKUPS else (args, kwargs)
            moved = [x for x in tree_leaves((read, out)) if isinstance(x, Tensor)]
            self.bytes[name] += sum(x.numel() * x.element_size() for x in moved)
        return out


def predicted(met: Met, count: int, target: str) -> Served:
    """A call with its time within a program; from shapes alone where the kernel's control flow allows it."""
    on = simulator.on(target, settings=NOT_ONCE)
    try:
        kernel = simulated(met.row)
        shapes = {name: ShapeDtype(shape, dtype) for name, shape, dtype in met.arrays}
        try:
            time = on.predict(kernel, **shapes, **dict(met.params))
        except simulator.NeedsData:
            time = on.predict(kernel, **numbers(met), **dict(met.params))
    except (simulator.NkiError, AssertionError, NotImplementedError) as error:
        return Served(met, count, None, getattr(error, "message", str(error)))
    return Served(met, count, time.total_us)


def numbers(met: Met) -> dict[str, Any]:
    """Standard normal numbers of the shapes, so that no branch for odd inputs is taken; integers are zeros."""
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal(shape, np.float32).astype(dtype_of(dtype))
        if "float" in dtype
        else np.zeros(shape, dtype_of(dtype))
        for name, shape, dtype in met.arrays
    }
