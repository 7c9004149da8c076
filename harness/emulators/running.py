"""Run a launcher through Triton's interpreter: what is patched, for how long, and what an error says.

`session` is the one place that changes Triton, for the time of one run and under a lock, and puts everything back.
Kernels that are compiled in the same process before, after and between are not affected; while a session is open, other
threads must not compile.
"""

from __future__ import annotations

import inspect
import threading
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import triton
import triton.experimental.gluon  # copies tl's functions when first imported, so before they are replaced
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.errors import InterpreterError
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

from triptych.harness.arrays import Array, Arrays
from triptych.harness.emulators import devices
from triptych.harness.emulators.correction import CheckedBuilder, CorrectedBuilder, CorrectedReduce
from triptych.harness.emulators.errors import EmulationError, KernelRaised
from triptych.harness.emulators.memory import Memory, Tensor
from triptych.harness.emulators.rebinding import KERNELS, Rebinder

_LOCK = threading.RLock()
LIBRARIES = tuple(str(Path(file).parent) for file in (inspect.__file__, np.__file__))
_MISSING = object()


class _Executor(interpreter.GridExecutor):  # type: ignore[misc]  # Triton is untyped
    """Triton's own, without its copies of torch tensors from and to a device: ours are on the host."""

    def _init_args_hst(self, args_dev: Any, kwargs: Any) -> Any:
        return args_dev, kwargs

    def _restore_args_dev(self, args_dev: Any, args_hst: Any, kwargs: Any, kwargs_hst: Any) -> None:
        pass


class _NoScope:
    """What `_patch_lang` returns once a session has patched the language for everyone."""

    def restore(self) -> None:
        pass


class _Kernel(InterpretedFunction):  # type: ignore[misc]
    """A kernel, which only another may call as a function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if any(isinstance(value, Tensor) for value in (*args, *kwargs.values())):
            name = self.__name__
            raise EmulationError(f"{name} is called without a grid: launch it as {name}[(n,)](..)")
        return super().__call__(*args, **kwargs)


def _interpreted(rebinder: Rebinder, kernel: Any) -> InterpretedFunction:
    return _Kernel(rebinder.function(kernel.fn))


@lru_cache(maxsize=64)
def _interpreted_launcher(launcher: types.FunctionType) -> types.FunctionType:
    return Rebinder(_interpreted).function(launcher)


@lru_cache(maxsize=1)
def _standard_library() -> dict[str, InterpretedFunction]:
    """`tl.sum`, `tl.zeros` and the other functions that Triton writes in Triton."""
    namespace = Rebinder(_interpreted).namespace(tl.standard.__dict__)
    return {name: value for name, value in namespace.items() if isinstance(value, InterpretedFunction)}


@contextmanager
def session(builder: CheckedBuilder) -> Iterator[None]:
    """Triton interprets with `builder` within."""
    corrected = isinstance(builder, CorrectedBuilder)
    with _LOCK, np.errstate(all="ignore"), devices.pretend(devices.INTERPRETER), ExitStack() as stack:

        def put(owner: Any, name: str, value: Any) -> None:
            before = vars(owner).get(name, _MISSING)
            undo = (lambda: delattr(owner, name)) if before is _MISSING else (lambda: setattr(owner, name, before))
            stack.callback(undo)
            setattr(owner, name, value)

        put(interpreter, "interpreter_builder", builder)
        put(interpreter.interpreter_semantic, "builder", builder)
        put(interpreter, "GridExecutor", _Executor)
        if corrected:
            put(interpreter, "_get_np_dtype", builder.np_dtype)
            put(interpreter, "ReduceOps", CorrectedReduce)
        if builder.holds_wide:
            put(interpreter, "_validate_np_data_size", lambda array, dtype: True)
        # The interpreter patches the language anew for every call of a device function, which is slow. Once is enough.
        everyone = types.SimpleNamespace(__globals__={"tl": tl, "core": tl.core})
        stack.callback(interpreter._patch_lang(everyone).restore)
        put(interpreter, "_patch_lang", lambda fn: _NoScope())
        put(tl.tensor, "__index__", lambda self: int(self.handle.data.item()))  # Triton 3.6's needs NumPy before 2.4
        for name, function in _standard_library().items():
            for owner in (tl.standard, tl):
                if isinstance(getattr(owner, name, None), KERNELS):
                    put(owner, name, function)
            if isinstance(vars(tl.tensor).get(name), JITFunction):
                put(tl.tensor, name, _method(function))
        yield


def _method(function: InterpretedFunction) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: function(self, *args, **kwargs)


def interpret(
    launcher: Callable[..., Any],
    arrays: Arrays,
    out: Array,
    params: dict[str, Any],
    builder: Callable[[Memory, bool], CheckedBuilder] = CorrectedBuilder,
    backwards: bool = False,
) -> None:
    """`launcher(**arrays, out=out, **params)`, interpreted."""
    if not isinstance(launcher, types.FunctionType):
        raise EmulationError(f"a launcher is a Python function that launches kernels; got {type(launcher).__name__}")
    memory = Memory()
    tensors = {name: memory.tensor(name, array, writable=False) for name, array in arrays.items()}
    tensors["out"] = memory.tensor("out", out, writable=True)
    with session(builder(memory, backwards)):
        try:
            _interpreted_launcher(launcher)(**tensors, **params)
        except Exception as error:
            raise _explain(error) from error


def _explain(error: BaseException) -> EmulationError | MemoryError:
    """`error`, free of the interpreter's wrapping, as one sentence with the line of the kernel it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    while isinstance(error, InterpreterError) and error.__cause__ is not None:
        error = error.__cause__
        frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, MemoryError):
        return error
    not_the_users = (str(Path(__file__).parent), str(Path(triton.__file__).parent), *LIBRARIES)
    places = [f for f in frames if not f.filename.startswith(not_the_users)]
    place = f" ({Path(places[-1].filename).name}:{places[-1].lineno})" if places else ""
    if isinstance(error, EmulationError):
        return type(error)(f"{error}{place}")
    return KernelRaised(f"the kernel raised {type(error).__name__}: {error}{place}")
