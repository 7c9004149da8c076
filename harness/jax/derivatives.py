"""A function with a derivative by kernels: what jax.grad needs to know of it, and where its backward pass runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax

from triptych.harness.functions.places import Place
from triptych.harness.jax.operators import Operator
from triptych.harness.jax.places import of_cpu

Given = Mapping[str, Any]  # arrays by name
Forward = Callable[[Place, Given, Given], tuple[Any, Any]]
Backward = Callable[[Place, Given, Given, Any, Any], Given]


@dataclass(frozen=True)
class Options:
    """What of a call is no array: its params, the names of its arrays, and where it runs on the CPU."""

    place: Place
    names: tuple[str, ...]
    params: tuple[tuple[str, Any], ...]


class Differentiable:
    """A function of arrays whose gradients are kernels as well.

    plain: of a place, arrays and params; gives the output where no gradient is asked for.
    forward: likewise; gives the output and what the backward pass needs beside the arrays.
    backward: of a place, arrays, params, what `forward` kept and the gradient of the output; gives a gradient for each
        array that has one, by name. It runs where the forward pass ran.
    """

    def __init__(self, plain: Callable[[Place, Given, Given], Any], forward: Forward, backward: Backward) -> None:
        @partial(jax.custom_vjp, nondiff_argnums=(0,))
        def function(options: Options, *arrays: jax.Array) -> Any:
            return plain(options.place, dict(zip(options.names, arrays, strict=True)), dict(options.params))

        def fwd(options: Options, *arrays: jax.Array) -> tuple[Any, Any]:
            given = dict(zip(options.names, arrays, strict=True))
            out, kept = forward(options.place, given, dict(options.params))
            return out, (arrays, kept)

        def bwd(options: Options, saved: tuple[Sequence[jax.Array], Any], gradient: Any) -> tuple[Any, ...]:
            arrays, kept = saved
            given = dict(zip(options.names, arrays, strict=True))
            found = backward(options.place, given, dict(options.params), kept, gradient)
            return tuple(found.get(name) for name in options.names)

        function.defvjp(fwd, bwd)
        self.function = function

    def __call__(self, arrays: Given, **params: Any) -> Any:
        """The output; what is None is left out."""
        given = {name: x for name, x in arrays.items() if x is not None}
        asked = {name: x for name, x in params.items() if x is not None}
        options = Options(of_cpu(), tuple(given), tuple(sorted(asked.items())))
        return self.function(options, *given.values())


def direct(operator: Operator) -> tuple[Callable[[Place, Given, Given], Any], Forward]:
    """The functions of `Differentiable` that call an operator as it is, and keep nothing."""

    def plain(place: Place, arrays: Given, params: Given) -> jax.Array:
        return operator(place, **arrays, **params)[0]

    def forward(place: Place, arrays: Given, params: Given) -> tuple[jax.Array, None]:
        return plain(place, arrays, params), None

    return plain, forward
