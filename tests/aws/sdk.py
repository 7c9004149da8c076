"""aws-neuron/aws-neuron-sdk: the tutorials, the deep dive on MX matmuls, and the kernels in pages and docstrings.

The references are NumPy expressions of what each page says, and AWS's own NumPy ones for MX. The criterion is that of
AWS's tutorials, rtol 1e-2 and atol 1e-4 for each element, and the deep dive's 5e-2 for MX.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from aws.table import Case, Ran, distance, execute
from triptych import simulator
from triptych.harness.measured.sources import code_blocks
from triptych.simulator import Options
from triptych.simulator.options import APIS

RTOL, ATOL, MX_TOLERANCE = 1e-2, 1e-4, 5e-2
Arguments = Callable[[np.random.Generator], tuple[Any, ...]]


@dataclass(frozen=True)
class Public:
    """One kernel: the file or page it is in, what it is called with, and what should come out."""

    place: str
    function: str
    arguments: Arguments
    expected: Callable[..., Any]
    target: str = "trn2"
    block: int = 0  # of a page: which of its code blocks with this function
    api: str = APIS[0]


def recognises(path: Path) -> bool:
    return (path / "nki" / "examples").is_dir()


def cases(path: Path) -> Iterator[Case]:
    for public in EXAMPLES:
        load = partial(in_file, path / "nki" / "examples" / public.place, public.function)
        yield case_of(public, load)
    for public in PAGES:
        yield case_of(public, partial(in_page, path / "nki" / public.place, public.function, public.block))
    yield from mx_cases(path / "nki" / "deep-dives" / "src" / "mxfp-matmul")


def case_of(public: Public, load: Callable[[], Any]) -> Case:
    def run(options: Options) -> Sequence[Ran]:
        arguments = public.arguments(np.random.default_rng(0))
        expected = public.expected(*(a.copy() if isinstance(a, np.ndarray) else a for a in arguments))
        out, seconds, instructions = execute(load(), public.target, options, arguments)
        parts = expected if isinstance(expected, tuple) else (expected,)
        if out is None:  # the kernel wrote to its last argument
            out = arguments[-1]
        outputs = out if isinstance(out, (tuple, list)) else (out,)
        pairs = [(np.asarray(o, np.float64), np.asarray(e, np.float64)) for o, e in zip(outputs, parts, strict=True)]
        holds = all(np.allclose(o, e, rtol=RTOL, atol=ATOL) for o, e in pairs)
        error = max(distance(o, e) for o, e in pairs)
        return [Ran(public.function, public.target, 1, seconds, instructions, holds, error)]

    label = f"{public.place}[{public.block}]" if public.block else public.place
    return Case(public.function, label, run, public.api)


# Where kernels are


def in_file(file: Path, function: str) -> Any:
    return getattr(simulator.load(file), function)


def in_page(page: Path, function: str, which: int) -> Any:
    """The kernel of the `which`-th code block of a page that defines `function`; a page imports for all its blocks."""
    found = [block for block in code_blocks(page.read_text()) if re.search(rf"def {function}\b", block)]
    names = {"__name__": page.stem}
    exec("import nki, nki.isa as nisa, nki.language as nl, numpy as np", names)
    exec(compile(found[which], str(page), "exec"), names)
    return names[function]


# Inputs and references


def normal(*shapes: tuple[int, ...], dtype: Any = np.float32) -> Arguments:
    return lambda rng: tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)


def uniform(*shapes: tuple[int, ...]) -> Arguments:
    return lambda rng: tuple(rng.random(shape).astype(np.float32) for shape in shapes)


def in_place(inputs: Arguments) -> Arguments:
    """`inputs`, and an array like the first for the kernel to write to."""
    return lambda rng: (lambda given: (*given, np.zeros_like(given[0])))(inputs(rng))


def wide(x: Any) -> Any:
    return np.asarray(x, np.float64)


def product(lhs: Any, rhs: Any) -> Any:
    return wide(lhs).T @ wide(rhs)


def pooled(x: Any, size: int) -> Any:
    c, h, w = x.shape
    return x.reshape(c, h // size, size, w // size, size).mean(axis=(2, 4))


def gelu(x: Any) -> Any:
    from math import erf

    return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def exponentials(*tensors: Any) -> Any:
    return tuple(np.exp(wide(t)) for t in tensors)


def scattered(rows: Any, indices: Any, output: Any) -> Any:
    output[indices[:, 0]] = rows
    return output


def with_indices(source: tuple[int, ...], indices: tuple[int, int], dtype: Any = np.float32) -> Arguments:
    """Rows, and as many different row numbers as `indices` holds, all of the rows among them."""

    def arguments(rng: np.random.Generator) -> tuple[Any, ...]:
        chosen = rng.permutation(source[0])[: indices[0] * indices[1]]
        return rng.standard_normal(source).astype(dtype), chosen.astype(np.uint32).reshape(indices)

    return arguments


def rows_of(source: Any, indices: Any) -> Any:
    """dst[d.., i] = source[flat index i, .., d]: the last axis first, the rows last (indices in columns)."""
    gathered = source[indices.T.reshape(-1)]
    return gathered.T if gathered.ndim == 2 else gathered.transpose(3, 1, 2, 0)


def nonzero_columns(x: Any) -> Any:
    """The columns of each row that are not zero, -1 behind them, and at last how many."""
    rows = [np.flatnonzero(row) for row in x]
    return np.stack([[*i, *[-1] * (x.shape[1] - len(i)), len(i)] for i in rows])


def mamba_arguments(rng: np.random.Generator) -> tuple[Any, ...]:
    """delta, u [batch, channels, length], A [channels, states], B, C [batch, states, length]."""
    batch, channels, length, states = 1, 256, 512, 16
    shapes = [(batch, channels, length)] * 2 + [(channels, states)] + [(batch, states, length)] * 2
    delta, u, a, b, c = (rng.random(s).astype(np.float32) for s in shapes)
    return delta, u, -a, b, c


def mamba(delta: Any, u: Any, a: Any, b: Any, c: Any) -> Any:
    """h_t = exp(delta_t A) h_{t-1} + delta_t u_t B_t for each state; out_t = sum over states of h_t C_t."""
    out = np.zeros(delta.shape)
    h = np.zeros((*delta.shape[:2], a.shape[1]))
    for t in range(delta.shape[2]):
        step = delta[:, :, t, None].astype(np.float64)
        h = np.exp(step * a) * h + step * u[:, :, t, None] * b[:, None, :, t]
        out[:, :, t] = (h * c[:, None, :, t]).sum(axis=2)
    return out


MATMUL = "matrix_multiplication/matrix_multiplication_nki_kernels.py"
MAMBA = "fused_mamba/mamba_nki_kernels.py"
ADDED = (uniform((128, 512), (128, 512)), lambda a, b: a + b)
EXAMPLES = (
    Public(MATMUL, "nki_matmul_basic_", normal((128, 64), (128, 512)), product),
    *(
        Public(MATMUL, f"nki_matmul_{name}_", normal((1024, 2048), (1024, 1024)), product)
        for name in ("tiled", "hoist_load", "block_free_dimension", "fully_optimized")
    ),
    Public(
        "tensor_addition/tensor_addition_nki_kernels.py",
        "nki_tensor_add",
        uniform((512, 1024), (512, 1024)),
        lambda a, b: a + b,
    ),
    Public(
        "transpose2d/transpose2d_nki_kernels.py",
        "tensor_transpose2D_kernel_",
        lambda rng: (rng.integers(-99, 99, (5, 12)).astype(np.int8), (3, 4)),
        lambda x, shape: x.reshape(-1, *shape).transpose(0, 2, 1).reshape(x.shape),
    ),
    Public(
        "average_pool2d/average_pool2d_nki_kernels.py",
        "tensor_avgpool_kernel",
        lambda rng: (rng.random((128, 6, 6)).astype(np.float32), 2),
        pooled,
    ),
    Public("simulate/nki_simulate_example.py", "add_kernel", *ADDED),
    Public(
        "index-case-1.py",
        "tensor_split_kernel_",
        uniform((16, 33)),
        lambda x: (x[:, 0::2], x[:, 1::2]),
    ),
    Public(
        "index-case-3.py",
        "tensor_maxpool_kernel_",
        lambda rng: (rng.random((128, 6, 6)).astype(np.float32), 2),
        lambda x, size: x.reshape(x.shape[0], 6 // size, size, 6 // size, size).max(axis=(2, 4)),
    ),
    Public("layout-pass.py", "tensor_exp_kernel_", uniform((128, 512)), np.exp),
    *(Public(MAMBA, f"mamba_v{version}", mamba_arguments, mamba) for version in (1, 2, 3)),
)
BF16 = ml_dtypes.bfloat16
ISA = "api/nki/isa/__init__.py"
TUTORIAL = "guides/tutorials/kernel-optimization.rst"
SCHEDULING = "guides/how-to-scheduling-apis.rst"
GUIDE = "get-started/nki-language-guide.rst"
MIGRATION = "migration/index.rst"
PATTERNS = "deep-dives/nki-aps.rst"
EVEN_ROWS = (normal((128, 512)), lambda a: a[::2])
TILES = [(128, 64)] * 3
PAGES = (
    Public(TUTORIAL, "matrix_multiply_kernel", normal((128, 64), (128, 512)), product),
    *(
        Public(TUTORIAL, "matrix_multiply_kernel", normal((1024, 2048), (1024, 1024)), product, block=n)
        for n in range(1, 5)
    ),
    Public("get-started/about/nki-dma-overview.rst", "tensor_exp_kernel_isa", normal((4, 4096), dtype=BF16), np.exp),
    Public(
        "get-started/about/nki-dma-overview.rst",
        "tensor_exp_kernel_isa",
        normal((128, 128), dtype=BF16),
        np.exp,
        block=1,
    ),
    Public(GUIDE, "nki_tensor_add_kernel", *ADDED),
    Public(GUIDE, "relu_kernel", in_place(normal((256, 512))), lambda x, out: np.maximum(x, 0)),
    Public(GUIDE, "scale_kernel", in_place(normal((256, 512))), lambda x, out: 0.5 * x),
    Public("get-started/quickstart-implement-run-kernel.rst", "nki_tensor_add_kernel", *ADDED, block=1),
    Public(SCHEDULING, "kernel", lambda rng: (1 + rng.random((128, 64)).astype(np.float32),), lambda t: 1 / t + t + 1),
    Public(SCHEDULING, "kernel", uniform(*TILES), exponentials, block=1),
    *(Public(SCHEDULING, "loop", uniform(*TILES), exponentials, block=n) for n in (0, 1)),
    *(
        Public(MIGRATION, function, uniform((8, 128, 512)), lambda x: x, block=n)
        for function, n in (("sb_blocks_migrated", 0), ("sb_blocks_migrated", 1), ("sb_blocks_migrated_incorrect", 0))
    ),
    Public(PATTERNS, "scalar_dynamic_select", normal((4, 128, 512)), lambda a: a[3]),
    Public(PATTERNS, "gather_rows", *EVEN_ROWS),
    Public(PATTERNS, "indirect_vector_dynamic_dma", *EVEN_ROWS),
    Public(MIGRATION, "indirect_vector_dynamic_dma", *EVEN_ROWS),
    Public(
        ISA, "nonzero_with_count_kernel", lambda rng: ((rng.random((1, 64)) < 0.3).astype(np.float32),), nonzero_columns
    ),
    Public(ISA, "indirect_gather_kernel", with_indices((300, 64), (128, 1)), lambda rows, indices: rows[indices[:, 0]]),
    Public(
        ISA,
        "indirect_scatter_kernel",
        lambda rng: (
            rng.random((128, 64)).astype(np.float32),
            rng.permutation(300)[:128].astype(np.uint32).reshape(128, 1),
            np.zeros((300, 64), np.float32),
        ),
        scattered,
    ),
    Public(ISA, "nc_matmul_accumulate_kernel", normal((512, 128), (512, 512)), product),
    Public(ISA, "gather_transpose_kernel", with_indices((128, 128), (128, 1), BF16), rows_of),
    Public(ISA, "gather_transpose_2d_kernel", with_indices((256, 128), (128, 2), BF16), rows_of),
    Public(ISA, "gather_transpose_4d_kernel", with_indices((256, 1, 2, 64), (128, 2), BF16), rows_of),
    Public(ISA, "activate2_scale_bias_kernel", normal((128, 512)), lambda x: gelu(2 * wide(x) + 0.5), target="trn3"),
)


# The deep dive on MX matmuls: its own quantizer and products in NumPy


def mx_cases(folder: Path) -> Iterator[Case]:
    sys.path.insert(0, str(folder))
    fp8, fp4 = ml_dtypes.float8_e5m2, ml_dtypes.float4_e2m1fn
    yield mx_case("kernel_offline_quantized_mx_matmul", "e5m2", partial(offline, fp8))
    yield mx_case("kernel_offline_quantized_mx_matmul", "e2m1", partial(offline, fp4))
    yield mx_case("kernel_on_device_quantize_matmul_mx", "e2m1 and e5m2", partial(on_device, fp4, fp8))
    yield mx_case("kernel_on_device_quantize_matmul_mx", "e5m2", partial(on_device, fp8, fp8))
    for packed in ("", "_packed_scale"):
        for by_copy in (True, False):
            label = f"e5m2, strided by {'tensor_copy' if by_copy else 'DMA'}"
            yield mx_case(f"kernel_copy_strided_quantize_matmul_mx{packed}", label, partial(strided, fp8, by_copy))


def mx_case(function: str, label: str, inputs: Callable[[Any], tuple[tuple[Any, ...], Any]]) -> Case:
    def run(options: Options) -> Sequence[Ran]:
        np.random.seed(0)
        arguments, expected = inputs(importlib.import_module("mx_cpu_utils"))
        kernel = getattr(importlib.import_module("mx_kernels"), function)
        out, seconds, instructions = execute(kernel, "trn3", options, arguments)
        out = np.asarray(out, np.float64)
        holds = np.allclose(out, expected, rtol=MX_TOLERANCE, atol=MX_TOLERANCE)
        return [Ran(function, "trn3", 1, seconds, instructions, holds, distance(out, expected))]

    return Case(function, f"deep-dives/mxfp-matmul: {label}", run)


def packed_dtype(kind: Any) -> Any:
    from nki import language

    return getattr(language, f"{np.dtype(kind).name}_x4")


def offline(kind: Any, utils: Any) -> tuple[tuple[Any, ...], Any]:
    """Both operands quantized on the host."""
    _, _, left, left_scale = utils.generate_stabilized_mx_data(kind, (128, 4 * 128))
    _, _, right, right_scale = utils.generate_stabilized_mx_data(kind, (128, 4 * 512))
    expected = utils.nc_matmul_mx_golden(left, right, left_scale, right_scale, kind, kind)
    return (left, left_scale, right, right_scale, packed_dtype(kind)), expected


def on_device(left_kind: Any, right_kind: Any, utils: Any) -> tuple[tuple[Any, ...], Any]:
    """The moving operand quantized by the kernel."""
    _, _, left, left_scale = utils.generate_stabilized_mx_data(left_kind, (128, 4 * 128))
    values, _, _, _ = utils.generate_stabilized_mx_data(right_kind, (128, 4 * 512))
    right, right_scale = utils.quantize_mx_golden(values, right_kind)
    expected = utils.nc_matmul_mx_golden(left, right, left_scale, right_scale, left_kind, right_kind)
    given = (left, left_scale, values.astype(BF16), packed_dtype(left_kind), packed_dtype(right_kind))
    return given, expected


def strided(kind: Any, by_copy: bool, utils: Any) -> tuple[tuple[Any, ...], Any]:
    """Both operands laid out and quantized by the kernel; the reference is the product of what they were made of."""
    left, _, _, _ = utils.generate_stabilized_mx_data(kind, (512, 128))
    right, _, _, _ = utils.generate_stabilized_mx_data(kind, (512, 512))
    return (left.astype(BF16), right.astype(BF16), packed_dtype(kind), by_copy), wide(left).T @ wide(right)
