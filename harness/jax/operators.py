"""How a kernel becomes a function of JAX: one primitive, whose parameters say which row of the collection it is.

    norm = Operator("rms_norm", "rmsnorm", {"x": "M N", "gain": "N"}, {"out": "M N"})
    (out,) = norm(x=x, gain=gain, eps=1e-6)

jax.jit sees a node whose shapes follow from the signature. What becomes of the node is decided where it is compiled, by
the platform (`lowering`); on arrays of the CPU outside of jax.jit the kernel simply runs. Derivatives are the
functions' own (`derivatives`); the primitive itself has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad

from triptych.harness.functions import calls, rows
from triptych.harness.functions.places import NoKernel, Place
from triptych.harness.functions.rows import Meant, Work
from triptych.harness.jax.places import of_cpu
from triptych.harness.jax.signatures import Signature

Row = str | Callable[[Sequence[str]], str]  # of the names of what is given and is no default
DEFAULTS = {"causal": False, "eps": 1e-5, "interleaved": False, "with_lse": False}  # of the rows' params


class Operator:
    """A row of the collection, by the axes of its inputs and outputs.

    mutates: inputs that the kernels change in place. Arrays of JAX do not change: what these become is handed out
    behind the outputs.
    """

    def __init__(
        self,
        name: str,
        row: Row,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        mutates: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.row = row
        self.mutates = mutates
        self.signature = Signature(inputs, {**outputs, **{name: inputs[name] for name in mutates}})

    def __call__(self, at: Place | None = None, /, **given: Any) -> list[jax.Array]:
        """The outputs in order, those that change behind the others.

        at: where it runs on the CPU, if not where `on_cpu` says.
        """
        arrays = {name: given[name] for name in self.signature.inputs if given.get(name) is not None}
        params = {
            name: value
            for name, value in given.items()
            if name not in self.signature.inputs and value is not None and value != DEFAULTS.get(name)
        }
        task = Task(self, tuple(arrays), tuple(sorted(params.items())), at or of_cpu())
        results: list[jax.Array] = primitive.bind(*arrays.values(), task=task)
        return results

    def row_of(self, given: Sequence[str]) -> str:
        return self.row if isinstance(self.row, str) else self.row(given)


@dataclass(frozen=True)
class Task:
    """A call of an operator but for its arrays, whose `names` are in order; `place` is where it runs on the CPU."""

    operator: Operator
    names: tuple[str, ...]
    params: tuple[tuple[str, Any], ...]
    place: Place

    def results(self, arrays: Sequence[Any]) -> list[Any]:
        """Shapes and dtypes of the outputs."""
        return self.operator.signature.results(self.operator.name, self.names, arrays)

    def work(self, arrays: Sequence[Any]) -> Work:
        """The same as the collection's rows are asked it."""
        params = dict(self.params)
        meant = [Meant(tuple(x.shape), x.dtype) for x in self.results(arrays)]
        outputs = dict(zip(self.operator.signature.outputs, meant, strict=True))
        return Work(
            self.operator.row_of((*self.names, *params)),
            dict(zip(self.names, arrays, strict=True)),
            params,
            {name: x for name, x in outputs.items() if name not in self.operator.mutates},
            self.operator.mutates,
        )

    def run(self, *arrays: Any) -> list[np.ndarray]:
        """The outputs on the CPU, as arrays of NumPy."""
        dense = [np.ascontiguousarray(x) for x in arrays]
        work = self.work(dense)
        changed = {name: np.array(work.arrays[name]) for name in work.mutates}  # JAX's own may not be written to
        work = replace(work, arrays={**work.arrays, **changed})
        found = rows.compute(work, self.place)
        self.tell(work, self.place)
        return [np.ascontiguousarray(x) for x in (*found, *changed.values())]

    def tell(self, work: Work, place: Place) -> None:
        """Let whoever listens know of the call."""
        shapes = {name: (tuple(x.shape), str(x.dtype)) for name, x in work.arrays.items()}
        calls.made(calls.Call(self.operator.name, work.row, place, shapes, dict(work.params)))


def shapes_of(*arrays: Any, task: Task) -> list[Any]:
    return [jax.core.ShapedArray(x.shape, x.dtype) for x in task.results(arrays)]


def now(*arrays: Any, task: Task) -> list[jax.Array]:
    """Outside of a trace: on the CPU the kernel is called, elsewhere a program of this one node is compiled."""
    devices = {device for x in arrays if isinstance(x, jax.Array) for device in x.devices()}
    platforms = {device.platform for device in devices} or {jax.default_backend()}
    if platforms != {"cpu"}:
        results: list[jax.Array] = compiled(task)(*arrays)
        return results
    with jax.default_device(min(devices, key=lambda device: device.id, default=None)):
        return [jnp.asarray(x) for x in task.run(*arrays)]


@cache
def compiled(task: Task) -> Callable[..., Any]:
    """The node alone as a compiled function."""
    program: Callable[..., Any] = jax.jit(lambda *arrays: primitive.bind(*arrays, task=task))
    return program


def no_derivative(primals: Any, tangents: Any, task: Task) -> Any:
    raise NoKernel(
        f"{task.operator.name} cannot be differentiated: it has no backward kernel, or a second derivative is asked for"
    )


primitive = Primitive("triptych_kernel")
primitive.multiple_results = True
primitive.def_abstract_eval(shapes_of)
primitive.def_impl(now)
ad.primitive_jvps[primitive] = no_derivative
