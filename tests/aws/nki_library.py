"""aws-neuron/nki-library at tag 2.29 (NKI 0.3): its kernels, with the inputs and references of its own tests.

The tests are written for AWS's hardware: each makes inputs, names a kernel and a reference in PyTorch or NumPy, and
hands all of it to an orchestrator. Here the orchestrator is `Judge`, which runs the kernel on the simulator and asks
AWS's own comparison: every element within atol + rtol * the largest |reference|, or a validator of the test's. What
this file holds is which tests to run with which of their parameters, the smallest first.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import os
import random
import sys
import types
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aws import stand_ins
from aws.table import Case, Ran, distance, execute
from triptych import simulator
from triptych.simulator import Options
from triptych.simulator.dtypes import dtype_of

TESTS = "test.integration.nkilib."


@dataclass(frozen=True)
class Check:
    """Some parameter sets of one test method: `which` counts from the smallest, and `change` replaces parameters."""

    module: str
    method: str
    which: tuple[int, ...] = (0,)
    target: str = "trn2"
    api: str = "0.6"
    change: dict[str, Any] = field(default_factory=dict)
    fails: str = ""


def recognises(path: Path) -> bool:
    return (path / "src" / "nkilib_src" / "nkilib").is_dir()


def cases(path: Path) -> Iterator[Case]:
    """Every case of CHECKS, its module imported when its turn comes."""
    needed(path)
    for check in CHECKS:
        for index in check.which:
            yield case_of(check, index)


def needed(path: Path) -> None:
    """Make the checkout importable, and AWS's tools that are not here as importable as they need to be."""
    os.environ["NKILIB_LOG_LEVEL"] = "OFF"
    if not (path / "test" / "integration").is_dir():
        raise SystemExit(f"{path} has no folder test/integration; give a whole checkout of nki-library at tag 2.29")
    for name in [n for n in sys.modules if n.partition(".")[0] == "test"]:
        del sys.modules[name]  # Python's own tests have the same name
    sys.path[:0] = [str(path), str(path / "src")]
    stand_ins.install()


def case_of(check: Check, index: int) -> Case:
    def run(options: Options) -> Sequence[Ran]:
        module = importlib.import_module(TESTS + check.module)
        holder, method = find(module, check.method)
        chosen = dict(smallest(method)[index])
        for name, value in check.change.items():
            put(chosen, name, value)
        judge = Judge(options)
        arguments = fixtures(method, judge, check.target) | chosen
        np.random.seed(0)
        random.seed(0)
        try:
            getattr(holder(), check.method)(**arguments)
        except BaseException as skipped:
            if type(skipped).__name__ != "Skipped":  # pytest's, which is no Exception
                raise
            raise LookupError(f"{check.method} skips these parameters: {skipped}") from None
        if not judge.ran:
            raise LookupError(f"{check.method} took the parameters for a negative test and ran no kernel")
        return judge.ran

    label = f"{check.method.removeprefix('test_')}[{index}]"
    if check.change:
        label += " with " + ", ".join(f"{k}={v}" for k, v in check.change.items())
    return Case(check.module.rpartition("test_")[2], label, run, check.api, check.fails)


def find(module: types.ModuleType, method: str) -> tuple[type, Any]:
    for value in vars(module).values():
        if inspect.isclass(value) and value.__module__ == module.__name__ and hasattr(value, method):
            return value, getattr(value, method)
    raise LookupError(f"{module.__name__} has no {method}; is this tag 2.29?")


def fixtures(method: Any, judge: Judge, target: str) -> dict[str, Any]:
    """What pytest would give the method beside its parameters."""
    common = importlib.import_module("test.utils.common_dataclasses")
    node = types.SimpleNamespace(callspec=types.SimpleNamespace(id=""), name="")
    given = {
        "test_manager": judge,
        "collector": Ignored(),
        "platform_target": common.Platforms[target.upper()],
        "request": types.SimpleNamespace(node=node),
        "is_negative_test_case": False,
    }
    return {name: value for name, value in given.items() if name in inspect.signature(method).parameters}


class Ignored:
    """A collector of metrics that keeps none."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


# Parameters


def smallest(method: Any) -> list[dict[str, Any]]:
    """The parameter sets of a test, by the product of their sizes."""
    return sorted(itertools.islice(parameter_sets(method), 400), key=size)


def parameter_sets(method: Any) -> Iterator[dict[str, Any]]:
    axes: list[Iterable[dict[str, Any]]] = []
    for mark in getattr(method, "pytestmark", []):
        if mark.name == "parametrize":
            axes.append(list(parametrized(*mark.args[:2])))
        elif mark.name == "coverage_parametrize":
            axes.append(list(itertools.islice(covered(mark.kwargs), 200)))
    ranged = next((v for v in vars(method).values() if type(v).__name__ == "RangeTestConfig"), None)
    if ranged is not None:
        harness = importlib.import_module("test.utils.ranged_test_harness")
        random.seed(0)
        _, tests = harness.RangeTestHarness(ranged).get_unique_test_cases()
        axes.append([{"range_test_options": t} for t in sorted(tests, key=size) if not t.is_negative_test_case][:200])
    for chosen in itertools.product(*axes):
        yield {name: value for part in chosen for name, value in part.items()}


def parametrized(names: Any, values: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """One dict for each entry of pytest.mark.parametrize that is not skipped."""
    keys = [n.strip() for n in names.split(",") if n.strip()] if isinstance(names, str) else list(names)
    for value in values:
        entry = (value,) if len(keys) == 1 else value
        if hasattr(value, "marks"):
            if any(m.name == "skip" for m in value.marks):
                continue
            entry = value.values
        yield dict(zip(keys, entry, strict=True))


def covered(axes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The valid combinations of nki-library's own coverage_parametrize."""
    names = [n for n, v in axes.items() if isinstance(v, (list, tuple)) or hasattr(v, "values")]
    accept = axes.get("filter")
    for combination in itertools.product(*(getattr(axes[n], "values", axes[n]) for n in names)):
        chosen = dict(zip(names, combination, strict=True))
        if accept is None or getattr(accept(**chosen), "name", "VALID") == "VALID":
            yield chosen


def size(value: Any) -> float:
    """The product of the integers in a parameter set, as deep as they are."""
    if hasattr(value, "tensors"):
        value = value.tensors
    if hasattr(value, "__dict__") and not inspect.isclass(value) and not isinstance(value, np.dtype):
        value = vars(value)
    if isinstance(value, dict):
        return float(np.prod([size(v) for v in value.values()]))
    if isinstance(value, (list, tuple)):
        return float(np.prod([size(v) for v in value]))
    return float(max(value, 1)) if type(value) is int else 1.0


def put(parameters: dict[str, Any], name: str, value: Any) -> None:
    """Replace a parameter, or an entry of the dimensions of a ranged test."""
    if name in parameters:
        parameters[name] = value
        return
    for dimensions in parameters["range_test_options"].tensors.values():
        if name in dimensions:
            dimensions[name] = value
            return
    raise LookupError(f"no parameter {name}")


# Judging


class Judge:
    """Stands where the tests have their orchestrator: `execute` runs a kernel, and AWS's comparison judges it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.ran: list[Ran] = []
        self.trace_mode = importlib.import_module("test.utils.common_dataclasses").TraceMode.Simulator

    def execute(self, test: Any) -> None:
        compiler = test.compiler_input
        target = compiler.platform_target.get_compile_target()
        os.environ["NKI_NC_VERSION"] = compiler.platform_target.get_nc_gen()
        kernel, cores = test.kernel_func, compiler.logical_nc_config
        launched = kernel if hasattr(kernel, "__getitem__") else simulator.jit(kernel)
        ranks = test.inference_args.collective_ranks
        given = [taken(test.kernel_input, rank) for rank in range(ranks)]
        outputs, seconds, instructions = execute(
            launched[cores], target, self.options, given if ranks > 1 else given[0]
        )
        verdicts = [
            judged(test.validation_args, rank, outputs[rank] if ranks > 1 else outputs)
            for rank in (range(ranks) if per_rank(test.validation_args) else (0,))
        ]
        errors = [error for _, error, _ in verdicts if error is not None]
        self.ran.append(
            Ran(
                getattr(kernel, "__name__", type(kernel).__name__),
                target,
                cores,
                seconds,
                instructions,
                all(holds for holds, _, _ in verdicts),
                max(errors) if errors else None,
                "; ".join(dict.fromkeys(note for _, _, note in verdicts if note))
                + (f"; {ranks} ranks" if ranks > 1 else ""),
            )
        )


def taken(given: Any, rank: int) -> dict[str, Any]:
    """The arguments of one rank, in copies, by the kernel's own names."""
    arguments = given if isinstance(given, dict) else given.for_rank(rank)
    return {
        name.removesuffix(".must_alias_input"): value.copy() if isinstance(value, np.ndarray) else value
        for name, value in arguments.items()
    }


def per_rank(wanted: Any) -> bool:
    return wanted is not None and type(wanted.golden_output).__name__ == "PerRankLazyGoldenGenerator"


def judged(wanted: Any, rank: int, outputs: Any) -> tuple[bool, float | None, str]:
    """(whether AWS's criterion holds, the largest error, remark) of the outputs of one rank."""
    golden: Any = None if wanted is None else wanted.golden_output
    stored: dict[str, Any] = {}  # what the test says the outputs are, where it says so apart from the reference
    if golden is not None and not isinstance(golden, dict):
        stored = getattr(golden, "output_ndarray", {})
        golden = golden.for_rank(rank) if per_rank(wanted) else golden.golden
    if golden is None:
        return True, None, "checks itself"
    given = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    named = dict(zip(stored if set(golden) <= set(stored) else golden, given, strict=False))
    if not set(golden) <= set(named):
        return False, None, f"{len(given)} outputs where {len(golden)} are expected"
    holds, notes = True, []
    with comparisons() as errors:
        for name, expected in golden.items():
            out = named[name]
            if hasattr(expected, "validator"):
                same = expected.validator(None).validate(as_stored(out, expected.output_ndarray))
            else:
                a, b = as_float32(out, stored.get(name, expected)), as_float32(expected, expected)
                same = a.size == b.size and comparators().maxAllClose(
                    a.reshape(b.shape), b, wanted.relative_accuracy, wanted.absolute_accuracy
                )
                if not np.any(b):
                    notes.append(f"{name} is expected to be zero")
            holds = bool(same) and holds
    return holds, max(errors) if errors else None, "; ".join(notes)


def comparators() -> types.ModuleType:
    return importlib.import_module("test.integration.nkilib.utils.comparators")


@contextmanager
def comparisons() -> Iterator[list[float]]:
    """The errors of everything that AWS's comparison compares meanwhile, in the tests' own validators too."""
    errors: list[float] = []
    original = comparators().maxAllClose

    def noted(a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
        errors.append(distance(a, b))
        return original(a, b, *args, **kwargs)

    users = [m for m in list(sys.modules.values()) if getattr(m, "maxAllClose", None) is original]
    for module in users:
        module.maxAllClose = noted  # type: ignore[attr-defined]
    try:
        yield errors
    finally:
        for module in users:
            module.maxAllClose = original  # type: ignore[attr-defined]


def as_stored(out: Any, like: Any) -> Any:
    """The bytes of an output in the dtype that the test expects, as its validators take them."""
    if stand_ins.packed_name(like.dtype) is None:
        out = np.asarray(out).astype(dtype_of(like.dtype).np)
    return np.ascontiguousarray(out).view(np.uint8).ravel()


def as_float32(values: Any, like: Any) -> Any:
    """Values for the comparison; packed elements are compared as four, or as the bytes that the test reads them as."""
    values, kind = np.asarray(values), np.asarray(like).dtype
    name = stand_ins.packed_name(kind)
    if name is not None:
        return stand_ins.unpacked(values, name)
    if values.dtype.kind == "u" and kind.kind == "f" and values.dtype.itemsize == kind.itemsize:
        values = np.ascontiguousarray(values).view(kind)
    return values.astype(np.float32)


CHECKS: tuple[Check, ...] = (
    Check("core.cumsum.test_cumsum", "test_cumsum_fast", (0, 1)),
    Check("core.rmsnorm.test_rmsnorm_quant", "test_rmsnorm_quant_lnc_unit", (0, 1)),
    Check("core.rmsnorm.test_rmsnorm_quant", "test_rmsnorm_quant_vnc_unit", (0, 1)),
    Check("core.rmsnorm.test_rmsnorm_quant", "test_rmsnorm_row_quant_sweep", (0, 1)),
    Check("core.qkv.test_qkv_tkg", "test_qkv_tkg_accuracy_unit", (0, 1)),
    Check("core.qkv.test_qkv_tkg", "test_qkv_tkg_performance_bsd_unit", (0, 1)),
    Check("core.qkv.test_qkv_tkg", "test_qkv_tkg_sb2sb_accuracy_unit", (0, 1)),
    Check("core.qkv.test_qkv_tkg", "test_qkv_tkg_sweep", (1,)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_accuracy_unit", (0, 1)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_block_kv_cache", (0, 1)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_fp8_extreme_values_clamping", (0, 1)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_fp8_kv_cache_quantization", (0, 1)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_fused_rope_unit", (0, 1)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_model_unit", (0, 1)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_no_dma_transpose_unit", (0, 1)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_non_quantized", (0,)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_performance_bsd_unit", (0, 1)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_performance_nbsd_unit", (0, 1)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_sweep", (0, 1)),
    Check("core.output_projection.test_output_proj_tkg", "test_output_proj_tkg_fp8_sweep", (0,)),
    Check("core.output_projection.test_output_proj_tkg", "test_output_proj_tkg_sweep", (0,)),
    Check("core.output_projection.test_output_proj_tkg", "test_output_proj_tkg_sweep_manual", (0,)),
    Check("core.output_projection.test_output_proj_tkg", "test_output_proj_tkg_unit", (0, 1)),
    Check("core.output_projection.test_output_proj_cte", "test_output_proj_cte_bf16_sweep", (0, 1)),
    Check("core.output_projection.test_output_proj_cte", "test_output_proj_cte_bf16_unit", (0, 1)),
    Check("core.output_projection.test_output_proj_cte", "test_output_proj_cte_static_fp8_sweep", (0, 1)),
    Check("core.output_projection.test_output_proj_cte", "test_output_proj_cte_static_fp8_unit", (0, 1)),
    Check("core.mlp.test_mlp_tkg", "test_mlp_tkg_kernel_sweep_I_non_multiple_of_128", (0, 1)),
    Check("core.mlp.test_mlp_tkg", "test_mlp_tkg_kernel_sweep_I_non_multiple_of_128_fp8_row_quant", (0, 1)),
    Check("core.mlp.test_mlp_tkg", "test_mlp_tkg_kernel_sweep_I_non_multiple_of_128_fp8_static_quant", (0, 1)),
    Check("core.mlp.test_mlp_tkg", "test_mlp_tkg_kernel_sweep_feature_test", (0, 1)),
    Check("core.mlp.test_mlp_tkg", "test_mlp_tkg_kernel_sweep_store_add_false", (0, 1)),
    Check("core.mlp.test_mlp_tkg", "test_mlp_tkg_separation_pass", (0, 1)),
    Check("core.mlp.test_mlp_tkg", "test_mlp_tkg_unit", (0, 1)),
    Check("core.mlp.test_mlp_cte", "test_mlp_cte_sweep", (0, 1)),
    Check("core.mlp.test_mlp_cte", "test_mlp_cte_unit", (0, 1)),
    Check("core.attention.test_attention_cte", "test_attention_cte_cp_bk_klr_unit", (0, 1)),
    Check("core.attention.test_attention_cte", "test_attention_cte_no_cp_unit", (0, 1)),
    Check("core.attention.test_attention_tkg", "test_attn_tkg_fast", (0, 1)),
    Check("core.attention.test_attention_tkg", "test_attn_tkg_slow", (0, 1)),
    Check("core.attention.test_attention_tkg", "test_attn_tkg_sweep", (0, 1)),
    Check("core.attention.test_attention_bwd", "test_attention_bwd_fast", (0, 1)),
    Check("core.attention.test_attention_bwd", "test_attention_bwd_sequence_packing", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_block_kv_mask_generation", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_block_kv_with_active_mask", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_flat_kv_nonstrided_mask_generation", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_flat_kv_strided_mask_generation", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_flat_kv_with_active_mask", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_swa_mask_generation", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_active_mask", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_block_kv", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_fa_tiling", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_fa_tiling_with_active_mask", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_flat_kv", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_gen_mask_hbm_lnc_sweep", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_swa", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_swa_with_active_mask", (0, 1)),
    Check("core.router_topk.test_router_topk", "test_router_topk", (0, 1)),
    Check("core.router_topk.test_router_topk", "test_router_topk_sweep", (0, 1)),
    Check("core.topk.test_topk", "test_topk_sweep", (0, 1)),
    Check("core.topk.test_topk", "test_topk_unit", (0, 1)),
    Check("core.topk.test_topk", "test_topk_unsorted", (0, 1)),
    Check("core.utils.test_cross_partition_copy", "test_cross_partition_copy", (0, 1)),
    Check("experimental.benchmark.test_find_nonzero_indices_with_count", "test_find_nonzero_indices_unit", (0, 1)),
    Check("experimental.conv.test_conv1d", "test_conv1d_all", (0, 1)),
    Check("experimental.conv.test_conv1d", "test_conv1d_basic", (0, 1)),
    Check("experimental.conv.test_conv1d", "test_conv1d_whisper", (0, 1)),
    Check("experimental.conv.test_depthwise_conv1d", "test_depthwise_conv1d_all", (0, 1)),
    Check("experimental.conv.test_depthwise_conv1d", "test_depthwise_conv1d_fast", (0, 1)),
    Check(
        "experimental.dynamic_shapes.test_dynamic_elementwise_add", "test_dynamic_elementwise_add_commutativity", (0, 1)
    ),
    Check("experimental.dynamic_shapes.test_dynamic_elementwise_add", "test_dynamic_elementwise_add_fast", (0, 1)),
    Check("experimental.subkernels.test_topk_reduce", "test_topk_reduce", (0, 1)),
    Check("core.moe_block.test_moe_block_tkg", "test_moe_block_kernel_model", (0, 1)),
    Check("core.moe_block.test_moe_block_tkg", "test_moe_block_kernel_unit", (0, 1)),
)
