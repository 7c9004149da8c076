"""`triton.language` while a session is open: its names compute, and are put back afterwards."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache
from typing import Any

import triton.experimental.gluon  # noqa: F401  copies tl's functions when first imported, so before they are replaced
import triton.language as tl
from triton.language.extra import libdevice as any_libdevice
from triton.language.extra.cuda import libdevice as cuda_libdevice
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

from triptych.harness.emulators.interpreter.rewriting import counted

_MISSING = object()


class Patches:
    """Names that are replaced, each until the stack is closed, and what they were by the `id` of what they had been."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.replaced: dict[int, Any] = {}

    def put(self, owner: Any, name: str, value: Any) -> None:
        before = vars(owner).get(name, _MISSING)
        undo = (lambda: delattr(owner, name)) if before is _MISSING else (lambda: setattr(owner, name, before))
        self.stack.callback(undo)
        setattr(owner, name, value)

    def rename(self, module: types.ModuleType, functions: Mapping[str, Any]) -> None:
        """Replace functions of the language, under whatever names a kernel's module may hold them as well."""
        before = {name: vars(module)[name] for name in functions if name in vars(module)}
        self.stack.callback(vars(module).update, before)
        vars(module).update({name: functions[name] for name in before})
        self.replaced.update({id(function): functions[name] for name, function in before.items()})


class _NoScope:
    """What `_patch_lang` returns once a session has patched the language for everyone."""

    def restore(self) -> None:
        pass


def interpret_language(patches: Patches) -> None:
    """Have Triton's interpreter patch the language, once for all kernels, and put right what it leaves."""
    before = [(owner, name, value) for owner in (tl, tl.core, tl.math) for name, value in vars(owner).items()]
    everyone = types.SimpleNamespace(__globals__={"tl": tl, "core": tl.core})
    patches.stack.callback(interpreter._patch_lang(everyone).restore)
    for owner, name, value in before:
        now = getattr(owner, name)
        if now is not value:
            patches.replaced[id(value)] = now
    patches.put(interpreter, "_patch_lang", lambda fn: _NoScope())
    loop = lambda *bounds, **options: counted(*bounds, **{k: v for k, v in options.items() if k == "step"})  # noqa: E731
    for owner in (tl, tl.core):
        patches.replaced.update({k: loop for k, v in patches.replaced.items() if v is owner.range})
        patches.put(owner, "range", loop)
    scaled = _with_constant_formats(tl.dot_scaled)
    patches.replaced.update({k: scaled for k, v in patches.replaced.items() if v is tl.dot_scaled})
    for owner in (tl, tl.core):
        patches.put(owner, "dot_scaled", scaled)
    patches.put(
        tl.tensor, "__index__", lambda self: int(self.handle.data.item())
    )  # Triton 3.6's needs NumPy before 2.4
    patches.put(tl.dtype, "to_ir", _with_amds_float8(tl.dtype.to_ir))
    patches.put(tl.tensor, "__bool__", lambda self: True)  # Triton's own code asks whether a mask is there
    for name, value in list(vars(tl.tensor).items()):
        if isinstance(value, (JITFunction, InterpretedFunction)):
            patches.put(tl.tensor, name, _method(value))
    for module in (cuda_libdevice, any_libdevice):
        patches.rename(module, _computed_libdevice())


@cache
def _computed_libdevice() -> Mapping[str, Callable[..., Any]]:
    """The functions of libdevice, which compute; made once, because there are two hundred."""
    functions = vars(cuda_libdevice).items()
    return {name: _with_semantic(function) for name, function in functions if tl.core.is_builtin(function)}


def _with_amds_float8(to_ir: Callable[..., Any]) -> Callable[..., Any]:
    """The interpreter of Triton 3.6 has AMD's float8 of 4 bits of exponent, and no name for it."""
    return lambda self, builder: builder.get_fp8e4b8_ty() if self.name == "fp8e4b8" else to_ir(self, builder)


def _with_constant_formats(dot_scaled: Callable[..., Any]) -> Callable[..., Any]:
    """Triton 3.6 takes the formats for constants, which a compiled kernel's literals are and strings are not."""

    def constant(value: Any) -> Any:
        return tl.constexpr(value) if isinstance(value, str) else value

    def computed(*args: Any, **named: Any) -> Any:
        return dot_scaled(*map(constant, args), **{name: constant(value) for name, value in named.items()})

    return computed


def _with_semantic(function: Callable[..., Any]) -> Callable[..., Any]:
    takes = inspect.signature(function).parameters

    def computed(*args: Any, **named: Any) -> Any:
        named = {name: value for name, value in named.items() if name in takes}
        return function(*args, **{**named, "_semantic": interpreter.interpreter_semantic})

    return computed


def _method(function: Any) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: function(self, *args, **kwargs)
