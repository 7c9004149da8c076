"""Compile a launcher's Triton kernels for a GPU that is not there, and report what each costs.

The launcher is called on tensors that have shapes and no storage, told that it runs on the target, and each launch is
recorded in place of being made. What was recorded is specialised as Triton's own launch would (an integer that is 1 is
a constant, pointers and integers divisible by 16 say so) and handed to `triton.compile`. Registers and spills come from
the binary, read by the `cuobjdump` in Triton's wheel, or, for AMD, from the metadata in the assembly.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import triton
from triton.compiler import ASTSource
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction, mangle_type

from triptych.harness.emulators.devices import DEVICES, pretend
from triptych.harness.emulators.errors import EmulationError
from triptych.harness.emulators.interpreter.hosting import on_the_host
from triptych.harness.emulators.interpreter.language import Patches
from triptych.harness.emulators.interpreter.launching import tune
from triptych.harness.emulators.interpreter.tensors import shape_only
from triptych.harness.emulators.memory import Memory

TARGETS = tuple(DEVICES)

# The matrix instructions of each architecture, by what their names begin with in PTX or in AMD's assembly.
MATRIX_INSTRUCTIONS = ("tcgen05.mma", "wgmma.mma_async", "mma.sync", "v_mfma")


@dataclass(frozen=True)
class CompiledKernel:
    """One kernel, specialised and compiled for one target."""

    kernel: str
    target: str
    registers: int  # per thread; on AMD vector registers, the accumulator's included
    spills_bytes: int  # per thread, of local memory, which is where registers go that did not fit
    shared_bytes: int  # per program
    num_warps: int
    num_stages: int
    matrix_instructions: tuple[str, ...]  # which of MATRIX_INSTRUCTIONS appear; none: multiplied on ordinary units
    constants: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compile_launcher(
    launcher: Callable[..., Any], shapes: Mapping[str, Sequence[int]], dtype: Any, target: str, **params: Any
) -> list[CompiledKernel]:
    """Compile every kernel that `launcher(**tensors, **params)` would launch on `target` (one of `TARGETS`).

    `shapes` names the launcher's tensors, `out` among them. Raises `EmulationError` for an unknown target.
    """
    launches = launches_of(launcher, shapes, dtype, target, **params)
    return [account(built(kernel, arguments, target), kernel, arguments, target) for kernel, arguments in launches]


def launches_of(
    launcher: Callable[..., Any], shapes: Mapping[str, Sequence[int]], dtype: Any, target: str, **params: Any
) -> list[tuple[JITFunction, dict[str, Any]]]:
    """(kernel, arguments) of every launch that the launcher would make on `target`."""
    if target not in DEVICES:
        raise EmulationError(f"cannot compile for {target!r}; the targets are {', '.join(TARGETS)}")
    sizes = {name: (tuple(shape), np.dtype(dtype)) for name, shape in shapes.items()}
    with pretend(DEVICES[target]), recorded() as launches:
        if "torch" in sys.modules:
            with on_the_host(Memory(), DEVICES[target], "meta") as host:
                launcher(**{name: host.shape_only(*size) for name, size in sizes.items()}, **params)
        else:
            memory = Memory()
            launcher(**{name: shape_only(memory, name, *size) for name, size in sizes.items()}, **params)
    return launches


@contextmanager
def recorded() -> Iterator[list[tuple[JITFunction, dict[str, Any]]]]:
    """Every launch within is remembered, (kernel, arguments), and none is made."""
    launches: list[tuple[JITFunction, dict[str, Any]]] = []

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **named: Any) -> None:
        launches.append((self, dict(zip(self.arg_names, args, strict=False)) | named))

    with ExitStack() as stack:
        patches = Patches(stack)
        patches.put(JITFunction, "run", run)
        patches.put(Autotuner, "run", tune)
        yield launches


def built(kernel: JITFunction, arguments: dict[str, Any], target: str) -> Any:
    """A launch as `triton.compile` gives it for `target`: every stage of it (`asm`) and its `metadata`."""
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int, ...], list[Any]] = {}
    options = {name: value for name, value in arguments.items() if name not in kernel.arg_names}
    options.setdefault("enable_fp_fusion", True)  # Triton's default up to 3.9, which warns unless it is said
    for index, parameter in enumerate(kernel.params):
        value = arguments.get(parameter.name, parameter.default)
        one = type(value) is int and value == 1 and not (parameter.do_not_specialize or parameter.annotation_type)
        if parameter.is_constexpr or one or value is None:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
            continue
        signature[parameter.name] = parameter.annotation_type or mangle_type(value)
        divisible = value.data_ptr() if hasattr(value, "data_ptr") else value
        if isinstance(divisible, int) and not isinstance(divisible, bool) and divisible % 16 == 0:
            attributes[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    try:
        with pretend(DEVICES[target]):
            return triton.compile(source, target=DEVICES[target].target, options=options)
    except Exception as error:
        raise EmulationError(f"{kernel.fn.__name__} does not compile for {target}: {_last_line(error)}") from error


def account(compiled: Any, kernel: JITFunction, arguments: dict[str, Any], target: str) -> CompiledKernel:
    """What a compiled kernel costs."""
    cuda = DEVICES[target].backend == "cuda"
    text = compiled.asm["ptx" if cuda else "amdgcn"]
    registers, spills = _nvidia(compiled.asm["cubin"]) if cuda else _amd(text)
    constants = {p.name: arguments.get(p.name, p.default) for p in kernel.params}
    return CompiledKernel(
        kernel=kernel.fn.__name__,
        target=target,
        registers=registers,
        spills_bytes=spills,
        shared_bytes=compiled.metadata.shared,
        num_warps=compiled.metadata.num_warps,
        num_stages=compiled.metadata.num_stages,
        matrix_instructions=tuple(name for name in MATRIX_INSTRUCTIONS if name in text),
        constants={
            p.name: constants[p.name]
            for p in kernel.params
            if (p.is_constexpr or constants[p.name] == 1) and isinstance(constants[p.name], (int, float, bool, str))
        },
    )


def _last_line(error: BaseException) -> str:
    """The reason alone: Triton quotes the source first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _nvidia(cubin: bytes) -> tuple[int, int]:
    """(registers, bytes of stack) from the binary itself, by the `cuobjdump` of Triton's wheel."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        account = subprocess.run([str(tool), "-res-usage", file.name], check=True, capture_output=True, text=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", account.stdout + account.stderr)
    if found is None:
        raise EmulationError(f"cuobjdump gives no register count: {account.stdout.strip()}")
    return int(found[1]), int(found[2])


def _amd(assembly: str) -> tuple[int, int]:
    """(vector registers, spilled bytes) from the kernel descriptor that LLVM writes into the assembly."""

    def number(name: str) -> int:
        found = re.search(rf"\.{name}:\s*(\d+)", assembly)
        return int(found[1]) if found else 0

    return number("vgpr_count"), 4 * (number("vgpr_spill_count") + number("sgpr_spill_count"))
