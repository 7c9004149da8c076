"""A launcher as launches of a program of JAX: run here by a stand-in for jax-triton, whose kernels are interpreted."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("triton")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.interpreters import mlir  # noqa: E402

import triptych.jax as tj  # noqa: E402
from triptych.harness import emulators  # noqa: E402
from triptych.harness.emulators.devices import INTERPRETER  # noqa: E402
from triptych.harness.jax import launches, lowering  # noqa: E402
from triptych.harness.jax.operators import primitive  # noqa: E402

from jax_functions import FUNCTIONS, Function  # isort: skip  # noqa: E402

REAL_GPU = launches.gpu  # which the programs below are not told
OPTIONS = {"num_warps", "num_stages", "enable_fp_fusion", "compute_capability"}


def triton_call(
    *args: Any,
    kernel: Any,
    out_shape: Sequence[Any],
    grid: tuple[int, ...],
    input_output_aliases: dict[int, int],
    **options: Any,
) -> Any:
    """As jax_triton.triton_call: inputs, then outputs, which are not written yet or what an aliased input holds."""
    assert set(options) <= OPTIONS and options["compute_capability"] == INTERPRETER.arch
    assert kernel.arg_names == [f"read_{name[5:]}" for name in kernel.arg_names[: len(args)]] + [
        f"written_{name[8:]}" for name in kernel.arg_names[len(args) :]
    ]

    def run(*arrays: Any) -> list[np.ndarray]:
        read = [np.array(x) for x in arrays]
        written = [np.zeros(x.shape, x.dtype) for x in out_shape]
        for i, j in input_output_aliases.items():
            written[j] = read[i].copy()
        given = {f"a{i}": x for i, x in enumerate((*read, *written))}
        emulators.interpret(lambda **a: kernel[grid](*a.values()), given, None, [*given][len(read) :])
        return written

    return jax.pure_callback(run, list(out_shape), *args)


@pytest.fixture(scope="module")
def on_a_gpu() -> Iterator[None]:
    """What is on the CPU is compiled as if it were on a GPU of one processor."""
    stand_in = types.ModuleType("jax_triton")
    stand_in.triton_call = triton_call  # type: ignore[attr-defined]
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setitem(sys.modules, "jax_triton", stand_in)
    monkeypatch.setattr(launches, "gpu", lambda: INTERPRETER)
    mlir.register_lowering(primitive, lowering.lowered(lowering.by_launches), platform="cpu")
    yield
    monkeypatch.undo()
    mlir.register_lowering(primitive, lowering.lowered(lowering.by_callback), platform="cpu")
    jax.clear_caches()


CHOSEN = ("attention", "linear", "gated_mlp", "rms_norm", "cross_entropy")


@pytest.mark.parametrize("one", [one for one in FUNCTIONS if one.name in CHOSEN], ids=CHOSEN)
def test_launches_give_what_jax_gives(one: Function, on_a_gpu: None) -> None:
    arrays = one.inputs(jnp.float32)
    wanted = tuple(range(len(arrays)))

    def both(function: Any) -> Any:
        return lambda *arrays: (function(*arrays), jax.grad(lambda *a: (function(*a) ** 2).sum(), wanted)(*arrays))

    with tj.calls() as made:
        found = jax.jit(both(one.ours))(*arrays)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(jax.jit(both(one.theirs))(*arrays)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)
    assert made.count() > 1 and made.count(backend="triton") == made.count()


def test_what_a_kernel_appends_to_is_a_new_value(on_a_gpu: None) -> None:
    rng = np.random.default_rng(0)
    shapes = ((2, 2, 1, 16), (2, 1, 1, 16), (2, 1, 80, 16))
    q, new, cache = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)
    arrays = (q, new, 2 * new, cache, 3 * cache, jnp.asarray([70, 2], jnp.int32))
    expected = tj.attention_decode(*arrays)
    for ours, theirs in zip(jax.jit(tj.attention_decode)(*arrays), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


def test_scratch_that_is_filled_and_memory_that_nothing_writes() -> None:
    from triptych.harness.jax.memory import Values

    values = Values()
    held = values.add((2, 3), np.float32, None, writable=True)
    zeros, empty = held.new_zeros(4, 5), held.new_empty((6,), dtype="int32")
    assert (values.of(zeros) == jnp.zeros((4, 5))).all() and values.of(zeros.fill_(2))[0, 0] == 2
    assert empty.dtype == np.int32 and empty.shape == (6,) and 2 not in values.held
    assert held.view(6).slot == held.slot and held.view(3, 2).stride() == (2, 1) and held.contiguous() is held


def test_a_product_for_which_a_launcher_makes_descriptors_of_addresses_is_launched_without(on_a_gpu: None) -> None:
    large = jax.ShapeDtypeStruct((4096, 4096), jnp.bfloat16)
    assert "python_cpu_callback" in jax.jit(tj.matmul).lower(large, large).as_text()


def test_where_jax_triton_is_missing_or_broken_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax_triton", None)
    program = jax.jit(tj.rms_norm).trace(jnp.ones((2, 3)), jnp.ones(3))
    with pytest.raises(tj.NoKernel, match="which is not to be had: jax-triton is not installed: pip install"):
        program.lower(lowering_platforms=("cuda",))


def test_a_gpu_that_is_not_there_or_not_known_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(backend: str) -> Any:
        raise RuntimeError("Unknown backend cuda")

    monkeypatch.setattr(jax, "local_devices", none)
    with pytest.raises(tj.NoKernel, match="^a launcher asks how many processors the GPU has, and JAX finds none here"):
        REAL_GPU()
    here = types.SimpleNamespace(compute_capability="9.0", core_count=114)
    monkeypatch.setattr(jax, "local_devices", lambda backend: [here])
    assert (REAL_GPU().arch, REAL_GPU().processors, REAL_GPU().shared_bytes) == (90, 114, 227 * 1024)
    here.compute_capability = "7.0"
    with pytest.raises(tj.NoKernel, match="^compute capability 7.0 is not among those known here: 8.0, 8.6"):
        REAL_GPU()


@pytest.mark.parametrize("value", [float("inf"), [1], object])
def test_what_cannot_stand_in_a_kernel_is_an_error(value: Any) -> None:
    with pytest.raises(tj.NoKernel, match="^jax-triton launches with arrays, numbers and words; a kernel is given"):
        launches.literal(value)


@pytest.mark.gpu
@pytest.mark.parametrize("one", FUNCTIONS, ids=[one.name for one in FUNCTIONS])
def test_jax_triton_itself_takes_every_launch(one: Function) -> None:
    """The whole of a GPU's program but for running it."""
    pytest.importorskip("jax_triton", reason="jax-triton needs the GPU plugin of JAX", exc_type=ImportError)
    if not any(device.platform == "cuda" for device in jax.devices()):
        pytest.skip("JAX has no CUDA device here")
    arrays = [jax.device_put(x, jax.devices("cuda")[0]) for x in one.inputs(jnp.float32)]
    np.testing.assert_allclose(one.ours(*arrays), one.theirs(*arrays), rtol=2e-5, atol=2e-5)
