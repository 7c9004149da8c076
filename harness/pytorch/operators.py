"""How an operator of PyTorch is declared: one function that gives its empty outputs, and the row that fills them.

    @operator("rms_norm", "rmsnorm", "out")
    def norm(x: Tensor, gain: Tensor, eps: float = 1e-5) -> Tensor:
        return x.new_empty(x.shape)

makes `torch.ops.triptych.rms_norm`, whose schema is the function's annotations, whose fake is the function itself, and
whose kernels are those of the collection's row "rmsnorm": wherever the tensors are, one of them runs or an error says
what is missing. torch.compile sees one node.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

from triptych.harness.functions import calls
from triptych.harness.functions.calls import Call
from triptych.harness.functions.places import NoKernel, Place
from triptych.harness.functions.rows import Work, listed, without_kernel
from triptych.harness.pytorch import running
from triptych.harness.pytorch.places import at, of_cpu, place_of
from triptych.harness.pytorch.tracing import decompose_on_gpu

NAMESPACE = "triptych"
Row = str | Callable[[Collection[str]], str]  # of the names of arguments that are not defaults


class Operator:
    """An operator of PyTorch that a row of the collection computes."""

    def __init__(
        self,
        name: str,
        row: Row,
        outputs: tuple[str, ...],
        empty: Callable[..., Any],
        mutates: tuple[str, ...],
        params: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.row = row
        self.outputs = outputs
        self.empty = empty
        self.mutates = mutates
        self.params = params
        self.signature = inspect.signature(empty)
        self.backward_rows: tuple[str, ...] = ()
        schema = torch.library.infer_schema(empty, mutates_args=mutates)
        self.custom = torch.library.custom_op(f"{NAMESPACE}::{name}", self.compute, mutates_args=mutates, schema=schema)
        self.custom.register_fake(empty)
        if not mutates:
            decompose_on_gpu(self.custom, self.launched)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.backward_rows and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            self.check_backward([x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)])
        return self.custom(*args, **kwargs)

    def check_backward(self, tensors: Sequence[torch.Tensor]) -> None:
        """NoKernel, before anything is computed, if a gradient is wanted that has no kernel where the tensors are."""
        if tensors[0].device.type == "meta" or not any(x.requires_grad for x in tensors):
            return
        place = place_of(tensors[0].device)
        lacks = without_kernel(self.backward_rows, place)
        if lacks:
            raise NoKernel(f"{self.name} has no gradient on {place.backend}: there is no kernel of {', '.join(lacks)}")

    def given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name, without those that are their defaults."""
        bound = self.signature.bind(*args, **kwargs).arguments
        parameters = self.signature.parameters
        return {
            name: x
            for name, x in bound.items()
            if x is not None and (isinstance(x, torch.Tensor) or x != parameters[name].default)
        }

    def compute(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs, wherever the tensors are."""
        work = self.work(args, kwargs)
        devices = {x.device for x in work.arrays.values()}
        if len(devices) != 1:
            named = ", ".join(f"{name} on {x.device}" for name, x in work.arrays.items())
            raise ValueError(f"{self.name} takes tensors on one device, got {named}")
        place = place_of(devices.pop())
        results = running.compute(work, place)
        self.tell(work, place)
        return tuple(results) if len(self.outputs) > 1 else results[0]

    def launched(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs by launches that a compiler traces."""
        results = running.traced_on_gpu(self.work(args, kwargs))
        return tuple(results) if len(self.outputs) > 1 else results[0]

    def work(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Work:
        given = self.given(args, kwargs)
        tensors = {name: x for name, x in given.items() if isinstance(x, torch.Tensor)}
        params = {**{name: x for name, x in given.items() if name not in tensors}, **self.params}
        outputs = dict(zip(self.outputs, listed(self.empty(*args, **kwargs)), strict=True))
        return Work(self.row_of(given), tensors, params, outputs, self.mutates)

    def row_of(self, given: Mapping[str, Any]) -> str:
        return self.row if isinstance(self.row, str) else self.row(given)

    def tell(self, work: Work, place: Place) -> None:
        shapes = {n: (tuple(x.shape), str(x.dtype).removeprefix("torch.")) for n, x in work.arrays.items()}
        calls.made(Call(self.name, work.row, place, shapes, dict(work.params)))

    def differentiable(
        self,
        backward: Callable[..., Any],
        save: Callable[..., None],
        by: tuple[str, ...],
        refused: tuple[str, ...] = (),
    ) -> None:
        """Give the operator a derivative.

        Parameters:
            backward: of the context and the gradient of each output; gives a dict of gradients by argument. The
                context's `needs` says by argument which are wanted. It runs where the forward pass ran.
            save: of the context, the arguments by name and the outputs; keeps what `backward` needs.
            by: the rows whose kernels `backward` calls.
            refused: arguments with which there is no derivative, so that `backward` raises NoKernel.
        """
        parameters = list(self.signature.parameters)
        self.backward_rows = by

        def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            arguments = dict(zip(parameters, inputs, strict=True))
            ctx.place = of_cpu()
            ctx.refused = [name for name in refused if arguments[name] is not None]
            save(ctx, arguments, output)

        def wrapped(ctx: Any, *gradients: Any) -> Any:
            if ctx.refused:
                raise NoKernel(f"{self.name} has no backward kernel with {', '.join(ctx.refused)}")
            given = [*ctx.needs_input_grad, *(False for _ in parameters)]  # PyTorch counts no trailing defaults
            ctx.needs = dict(zip(parameters, given, strict=False))
            with at(ctx.place):
                found = backward(ctx, *gradients)
            return tuple(found.get(name) for name in parameters)

        self.custom.register_autograd(wrapped, setup_context=setup)


OPERATORS: dict[str, Operator] = {}  # by name, without the namespace


def operator(
    name: str, row: Row, *outputs: str, mutates: tuple[str, ...] = (), **params: Any
) -> Callable[[Callable[..., Any]], Operator]:
    """Declare the operator `triptych::NAME`; `params` are given to the row's kernels as they are."""

    def declare(empty: Callable[..., Any]) -> Operator:
        made = OPERATORS[name] = Operator(name, row, outputs, empty, mutates, params)
        return made

    return declare
