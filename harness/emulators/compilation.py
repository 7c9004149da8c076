"""Compile a launcher's Triton kernels for a GPU that is not there, and report what each costs.

The launcher is called on tensors that have shapes and no storage, told that it runs on the target, and each launch is
recorded in place of being made. What was recorded is specialised as Triton's own launch would (an integer that is 1 is
a constant, pointers and integers divisible by 16 say so) and handed to `triton.compile`. Registers and spills come from
the binary, read by the `cuobjdump` in Triton's wheel, or, for AMD, from the metadata in the assembly.
"""

from __future__ import annotations

import atexit
import gc
import io
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import triton
from triton.compiler import ASTSource
from triton.experimental.gluon._runtime import GluonASTSource
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction, mangle_type

from triptych.harness.emulators.devices import DEVICES, pretend
from triptych.harness.emulators.errors import EmulationError
from triptych.harness.emulators.interpreter.hosting import on_the_host
from triptych.harness.emulators.interpreter.language import Patches
from triptych.harness.emulators.interpreter.launching import configurations, dimensions_of, run_with
from triptych.harness.emulators.interpreter.tensors import shape_only
from triptych.harness.emulators.memory import Memory
from triptych.harness.emulators.occupancy import Occupancy, occupancy

TARGETS = tuple(DEVICES)
atexit.register(gc.collect)  # or the bindings of Triton call what is left of a compilation of Gluon leaks, on stderr

# The matrix instructions of each architecture, by what their names begin with in PTX or in AMD's assembly.
MATRIX_INSTRUCTIONS = ("tcgen05.mma", "wgmma.mma_async", "mma.sync", "v_mfma")


class Launch(NamedTuple):
    """What a launcher would launch."""

    kernel: JITFunction
    arguments: dict[str, Any]
    grid: tuple[int, ...]  # three sizes

    @property
    def programs(self) -> int:
        """Of the whole grid."""
        return math.prod(self.grid)


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
    one_by_one: bool  # whether each wgmma waits for the one before, because the assembler found that it must
    dots: tuple[
        str, ...
    ]  # dtypes that `tl.dot` multiplies, and the precision of float32 that is not multiplied as it is: "tf32"
    constants: Mapping[str, Any]
    occupancy: Occupancy

    @property
    def misses_matrix_unit(self) -> bool:
        """Whether products that a matrix unit could take are made elsewhere. NVIDIA's has none for exact float32."""
        return bool(set(self.dots) - {"f32", "f64"}) and not self.matrix_instructions

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compile_launcher(
    launcher: Callable[..., Any], shapes: Mapping[str, Sequence[int]], dtype: Any, target: str, **params: Any
) -> list[CompiledKernel]:
    """Compile every kernel that `launcher(**tensors, **params)` would launch on `target` (one of `TARGETS`).

    `shapes` names the launcher's tensors, `out` among them. Raises `EmulationError` for an unknown target.
    """
    sizes = {name: (tuple(shape), dtype) for name, shape in shapes.items()}
    return [compiled(launch, target) for launch in launches_of(launcher, sizes, target, **params)]


def compiled(launch: Launch, target: str) -> CompiledKernel:
    """One launch, compiled for `target`, and what it costs there."""
    return account(built(launch, target), launch, target)


def launches_of(
    launcher: Callable[..., Any], tensors: Mapping[str, tuple[tuple[int, ...], Any]], target: str, **params: Any
) -> list[Launch]:
    """Every launch that the launcher would make on `target`.

    An autotuned kernel is launched in each of its configurations.

    tensors: the shape and dtype of each tensor that the launcher takes by keyword.
    """
    if target not in DEVICES:
        raise EmulationError(f"cannot compile for {target!r}; the targets are {', '.join(TARGETS)}")
    sizes = {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in tensors.items()}
    with pretend(DEVICES[target]), recorded() as launches:
        if "torch" in sys.modules:
            with on_the_host(Memory(), DEVICES[target], "meta") as host:
                launcher(**{name: host.shape_only(*size) for name, size in sizes.items()}, **params)
        else:
            memory = Memory()
            launcher(**{name: shape_only(memory, name, *size) for name, size in sizes.items()}, **params)
    return launches


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Every launch within is remembered, and none is made."""
    launches: list[Launch] = []

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **named: Any) -> None:
        arguments = dict(zip(self.arg_names, args, strict=False)) | named
        defaults = {p.name: p.default for p in self.params if p.has_default}
        launches.append(Launch(self, arguments, dimensions_of(grid, defaults | arguments)))

    with ExitStack() as stack:
        patches = Patches(stack)
        patches.put(JITFunction, "run", run)
        patches.put(Autotuner, "run", every_configuration)
        yield launches


def every_configuration(tuner: Any, *args: Any, **named: Any) -> None:
    """In place of `Autotuner.run`: a launch with each configuration that is not pruned."""
    for config in configurations(tuner, args, named):
        run_with(tuner, config, args, named)


def built(launch: Launch, target: str) -> Any:
    """A launch as `triton.compile` gives it for `target`: every stage of it (`asm`) and its `metadata`."""
    kernel, arguments, _ = launch
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
    kind = GluonASTSource if kernel.is_gluon() else ASTSource
    source = kind(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    try:
        # Triton prints the whole assembly where the assembler fails.
        with pretend(DEVICES[target]), redirect_stdout(io.StringIO()):
            return triton.compile(source, target=DEVICES[target].target, options=options)
    except Exception as error:
        raise EmulationError(f"{kernel.fn.__name__} does not compile for {target}: {reason(error)}") from error


def account(compiled: Any, launch: Launch, target: str) -> CompiledKernel:
    """What a compiled kernel costs."""
    kernel, arguments, _ = launch
    cuda = DEVICES[target].backend == "cuda"
    text = compiled.asm["ptx" if cuda else "amdgcn"]
    registers, spills = _nvidia(compiled.asm["cubin"]) if cuda else _amd(text)
    constants = {p.name: arguments.get(p.name, p.default) for p in kernel.params}
    shared, warps = compiled.metadata.shared, compiled.metadata.num_warps
    columns = getattr(compiled.metadata, "tmem_size", None) or 0
    return CompiledKernel(
        kernel=kernel.fn.__name__,
        target=target,
        registers=registers,
        spills_bytes=spills,
        shared_bytes=shared,
        num_warps=warps,
        num_stages=compiled.metadata.num_stages,
        matrix_instructions=tuple(name for name in MATRIX_INSTRUCTIONS if name in text),
        dots=dots_of(compiled.asm["ttgir" if kernel.is_gluon() else "ttir"]),
        one_by_one="wgmma.mma_async" in text and waits_in(compiled.asm["cubin"]) > text.count("wgmma.commit_group"),
        occupancy=occupancy(
            DEVICES[target], registers=registers, shared_bytes=shared, num_warps=warps, tensor_columns=columns
        ),
        constants={
            p.name: constants[p.name]
            for p in kernel.params
            if isinstance(constants[p.name], (int, float, bool, str)) and (p.is_constexpr or constants[p.name] == 1)
        },
    )


DOT = re.compile(
    r"(?:tt\.dot|tt\.dot_scaled|ttng\.warp_group_dot|ttng\.tc_gen5_mma\w*) .*?(?:inputPrecision = (\w+).*?)?"
    r": (?:tensor|!ttg\.memdesc)<(?:\d+x)+(\w+)"
)


def dots_of(ttir: str) -> tuple[str, ...]:
    """What `tl.dot` multiplies, or Gluon's products, from Triton's first stage of each: see `CompiledKernel.dots`."""
    found = (precision if precision and dtype == "f32" else dtype for precision, dtype in DOT.findall(ttir))
    return tuple(dict.fromkeys(found))


def reason(error: BaseException) -> str:
    """The line that says why: what the assembler calls fatal, or the last, for Triton quotes the source first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    fatal = [line.partition(":")[2].strip() for line in lines if re.match(r"ptxas\S* (fatal|error)", line)]
    return (fatal or lines[-1:] or [type(error).__name__])[0]


def _nvidia(cubin: bytes) -> tuple[int, int]:
    """(registers, bytes of stack) from the binary itself."""
    account = _of_binary(cubin, "cuobjdump", "-res-usage")
    found = re.search(r"REG:(\d+) STACK:(\d+)", account)
    if found is None:
        raise EmulationError(f"cuobjdump gives no register count: {account.strip()}")
    return int(found[1]), int(found[2])


def waits_in(cubin: bytes) -> int:
    """How many matrix instructions of Hopper's in a binary end a group, which is what can be waited for.

    As many as the groups of the PTX. Where ptxas finds too few registers, or that an accumulator is read amid a group,
    each instruction ends one of its own and is waited for at once (ptxas's notes C7510 to C7515, which Triton hides).
    """
    return len(re.findall(r"\b[HQI]GMMA\b.*\bgsb0\b", _of_binary(cubin, "nvdisasm")))


def _of_binary(cubin: bytes, tool: str, *options: str) -> str:
    """What a tool of Triton's wheel says of a binary."""
    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / tool
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([str(path), *options, file.name], check=True, capture_output=True, text=True)
    return said.stdout + said.stderr


def _amd(assembly: str) -> tuple[int, int]:
    """(vector registers, bytes of stack) from the kernel descriptor that LLVM writes into the assembly.

    Not its count of spilled scalar registers: they go to lanes of vector registers, and to no memory.
    """

    def number(name: str) -> int:
        found = re.search(rf"\.{name}:\s*(\d+)", assembly)
        return int(found[1]) if found else 0

    return number("vgpr_count"), number("private_segment_fixed_size")
