"""Run a launcher through Triton's interpreter: what is patched, for how long, and what an error says.

`session` is the one place that changes Triton, for the time of one run and under a lock, and puts everything back.
Kernels that are compiled in the same process before, after and between are not affected; while a session is open, other
threads must not compile. Within, a launch of any kernel of any module is interpreted: what is replaced is how Triton's
classes launch, and no function of the user is copied or changed.
"""

from __future__ import annotations

import inspect
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import triton
from triton.runtime import interpreter
from triton.runtime.autotuner import Autotuner
from triton.runtime.errors import InterpreterError
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

from triptych.harness import extras
from triptych.harness.arrays import Array, Arrays
from triptych.harness.emulators import devices
from triptych.harness.emulators.correction import CheckedBuilder, CorrectedBuilder, CorrectedReduce, CorrectedScan
from triptych.harness.emulators.errors import EmulationError, KernelRaised
from triptych.harness.emulators.gluon import launching as gluon
from triptych.harness.emulators.interpreter import language, tensors
from triptych.harness.emulators.interpreter.hosting import on_the_host
from triptych.harness.emulators.interpreter.launches import Launches
from triptych.harness.emulators.interpreter.launching import Launch, tune
from triptych.harness.emulators.interpreter.memoized import memoize
from triptych.harness.emulators.interpreter.tensors import Lacking, Tensor
from triptych.harness.emulators.memory import Memory

_LOCK = threading.RLock()
HARNESS = str(Path(__file__).parents[1])
LIBRARIES = tuple(str(Path(file).parent) for file in (inspect.__file__, np.__file__))


class Session:
    """Triton, interpreted: what its classes do in place of launching on a GPU."""

    def __init__(self, builder: CheckedBuilder) -> None:
        self.builder = builder
        self.replaced: dict[int, Any] = {}  # of the language, see `language.Patches`
        self.running: Launch | None = None

    def launch(self, kernel: Any, args: tuple[Any, ...], grid: Any, named: dict[str, Any]) -> None:
        """In place of `JITFunction.run`."""
        for hook in kernel.pre_run_hooks:
            hook(*args, **named)
        before, self.running = self.running, Launch(self.builder, self.replaced)
        try:
            if isinstance(kernel, JITFunction) and kernel.is_gluon():
                gluon.launch(self.builder, kernel, grid, args, named)
            else:
                self.running.run(kernel, grid, args, named)
        except Exception as error:
            raise explain(error) from error
        finally:
            self.running = before

    def call(self, kernel: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """In place of `JITFunction.__call__`: a kernel that another one calls as a function."""
        if self.running is None:
            name = kernel.__name__
            raise EmulationError(f"{name} is called without a grid: launch it as {name}[(n,)](..)")
        return self.running.function(kernel)(*args, **named)


@contextmanager
def session(builder: CheckedBuilder, device: devices.Device = devices.INTERPRETER) -> Iterator[Session]:
    """Triton interprets with `builder` within."""
    opened = Session(builder)

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **named: Any) -> None:
        if not warmup:
            opened.launch(self, args, grid, named)

    def call(self: Any, *args: Any, **named: Any) -> Any:
        return opened.call(self, args, named)

    with _LOCK, np.errstate(all="ignore"), devices.pretend(device), ExitStack() as stack:
        patches = language.Patches(stack)
        put = patches.put
        put(interpreter, "interpreter_builder", builder)
        put(interpreter.interpreter_semantic, "builder", builder)
        # It computes each sum and product of integers once more in 64 bits, for an assertion that is off.
        put(interpreter.interpreter_semantic, "binary_op_sanitize_overflow_impl", lambda lhs, rhs, operation: None)
        if isinstance(builder, CorrectedBuilder):
            put(interpreter, "_get_np_dtype", builder.np_dtype)
            put(interpreter, "ReduceOps", CorrectedReduce)
            put(interpreter, "ScanOps", CorrectedScan)
        if builder.holds_wide:
            put(interpreter, "_validate_np_data_size", lambda array, dtype: True)
        # Triton 3.6 makes one more for each name of the language, which a change of the builder would not reach.
        put(interpreter, "TritonSemantic", lambda builder: interpreter.interpreter_semantic)
        language.interpret_language(patches)
        memoize(patches)
        opened.replaced = patches.replaced
        for kind in (JITFunction, InterpretedFunction):
            put(kind, "run", run)
            put(kind, "__call__", call)
        put(Autotuner, "run", tune)
        yield opened


def interpret(
    launcher: Callable[..., Any],
    arrays: Arrays,
    out: Array | None,
    params: dict[str, Any],
    builder: Callable[[Memory, bool, Launches | None], CheckedBuilder] = CorrectedBuilder,
    backwards: bool = False,
    mutates: tuple[str, ...] = (),
    launches: Launches | None = None,
) -> Any:
    """`launcher(**arrays, out=out, **params)`, interpreted, and what it returned, with arrays for tensors.

    out: None for a launcher that takes no such argument. mutates: which of the `arrays` the kernel may write to.
    launches: takes what the launches leave; for a run backwards, has what those of the run before left.
    """
    if not callable(launcher) or isinstance(launcher, (JITFunction, InterpretedFunction)):
        raise EmulationError(f"a launcher is a Python function that launches kernels; got {type(launcher).__name__}")
    given = arrays if out is None else {**arrays, "out": out}
    writable = {*mutates, "out"}
    if "torch" not in sys.modules:
        kept = {name: given[name].copy() for name in writable & given.keys()}
        try:
            memory = Memory()
            thin = {name: tensors.add_array(memory, name, x, name in writable) for name, x in given.items()}
            with session(builder(memory, backwards, launches)):
                return _arrays_of(_called(launcher, thin, params), Tensor, lambda tensor: tensor._array.copy())
        except EmulationError as error:  # perhaps of the stand-in for a tensor, and not of the launcher
            lacking = isinstance(error, Lacking) or isinstance(error.__cause__, (AttributeError, TypeError))
            if not lacking or extras.why_not("torch") is not None:
                raise
        for name, values in kept.items():
            given[name][...] = values
    return _with_torch(launcher, given, writable, params, lambda memory: builder(memory, backwards, launches))


def _with_torch(
    launcher: Callable[..., Any],
    given: Arrays,
    writable: set[str],
    params: dict[str, Any],
    builder: Callable[[Memory], CheckedBuilder],
) -> Any:
    import torch

    from triptych.harness.emulators.interpreter.torch_tensors import array_of, tensor_of

    memory = Memory()
    held = {name: tensor_of(x) for name, x in given.items()}
    with session(builder(memory)), on_the_host(memory) as mode:
        for name, tensor in held.items():
            mode.add(name, tensor, name in writable)
        returned = _called(launcher, held, params)
    return _arrays_of(returned, torch.Tensor, array_of)


def _called(launcher: Callable[..., Any], given: dict[str, Any], params: dict[str, Any]) -> Any:
    try:
        return launcher(**given, **params)
    except Exception as error:
        raise explain(error) from error


def _arrays_of(returned: Any, kind: type, array_of: Callable[[Any], Array]) -> Any:
    """What a launcher returned, with an array for each tensor."""
    if isinstance(returned, kind):
        return array_of(returned)
    if isinstance(returned, (tuple, list)):
        return tuple(_arrays_of(part, kind, array_of) for part in returned)
    if isinstance(returned, dict):
        return {name: _arrays_of(part, kind, array_of) for name, part in returned.items()}
    return returned


def explain(error: BaseException) -> EmulationError | MemoryError:
    """`error`, free of the interpreter's wrapping, as one sentence with the line of the kernel it came from."""
    if isinstance(error, (Lacking, MemoryError)) or getattr(error, "__explained__", False):
        return error  # type: ignore[return-value]  # it is one already
    frames = traceback.extract_tb(error.__traceback__)
    while isinstance(error, InterpreterError) and error.__cause__ is not None:
        error = error.__cause__
        frames = traceback.extract_tb(error.__traceback__)
    places = _of_the_user(frames) or _of_the_user(traceback.extract_stack())  # of the kernel, or of its launch
    place = f" ({Path(places[-1].filename).name}:{places[-1].lineno})" if places else ""
    if isinstance(error, EmulationError):
        told = type(error)(f"{error}{place}")
    else:
        told = KernelRaised(f"the kernel raised {type(error).__name__}: {error}{place}")
    told.__explained__ = True  # type: ignore[attr-defined]
    return told


def _of_the_user(frames: Sequence[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """The frames of neither the harness, Triton, PyTorch nor Python's own library."""
    torch = sys.modules.get("torch")
    files = [triton.__file__, *([str(torch.__file__)] if torch else [])]
    others = (HARNESS, *(str(Path(file).parent) for file in files), *LIBRARIES, "<string>", "<frozen")
    return [frame for frame in frames if not frame.filename.startswith(others)]
