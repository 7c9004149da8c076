"""Where functions of JAX run: on the CPU as `on_cpu` asks, elsewhere by the platform, never in silence."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import triptych  # noqa: E402
import triptych.jax as tj  # noqa: E402
from triptych.harness.functions import rows as collection  # noqa: E402
from triptych.harness.jax import lowering, operators  # noqa: E402
from triptych.harness.jax.places import of_cpu  # noqa: E402

X, GAIN = jnp.arange(12.0).reshape(3, 4), jnp.ones(4)
TRN2 = tj.Place("nki-sim", "trn2")


def test_arrays_of_the_cpu_go_to_the_reference_unless_told() -> None:
    with tj.calls() as made:
        tj.rms_norm(X, GAIN)
        with tj.on_cpu("nki-sim", target="trn2") as place:
            tj.rms_norm(X, GAIN, 1e-6)
            with tj.on_cpu():
                tj.rms_norm(X, GAIN)
        tj.rms_norm(np.asarray(X), np.asarray(GAIN))
    reference = tj.Place("numpy")
    assert place == TRN2 and [call.place for call in made.made] == [reference, TRN2, reference, reference]
    assert made.made[1].params == {"eps": 1e-6} and made.made[0].params == {}
    assert made.made[0].arrays == {"x": ((3, 4), "float32"), "gain": ((4,), "float32")}
    assert (made.made[0].operator, made.made[0].row) == ("rms_norm", "rmsnorm")


def test_a_compiled_function_is_compiled_anew_for_another_place() -> None:
    program = jax.jit(tj.rms_norm)
    with tj.calls() as made:
        program(X, GAIN).block_until_ready()
        with tj.on_cpu("nki-sim", target="trn2"):
            program(X, GAIN).block_until_ready()
        program(X, GAIN).block_until_ready()
    assert [call.place.backend for call in made.made] == ["numpy", "nki-sim", "numpy"]


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["now", "compiled"])
def test_a_derivative_runs_where_its_function_ran(wrap: Any) -> None:
    with tj.on_cpu("nki-sim", target="trn2"):
        out, backward = jax.vjp(wrap(tj.rms_norm), X, GAIN)
    with tj.calls() as made:
        jax.block_until_ready(backward(out))
    assert [(call.operator, call.place) for call in made.made] == [("rms_norm_backward", TRN2)]


def test_a_missing_kernel_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = collection.rows()
    monkeypatch.setitem(rows, "rope", replace(rows["rope"], nki=None, triton=None))
    collection.simulated.cache_clear()
    turned = (jnp.ones((3, 2, 4)), jnp.ones((3, 2)), jnp.ones((3, 2)))
    with tj.on_cpu("nki-sim", target="trn2"):
        with pytest.raises(tj.NoKernel, match="^rope has no NKI kernel, which 'nki-sim' would run"):
            tj.rope(*turned)
        with pytest.raises(tj.NoKernel, match="^rope has no kernel that nki-sim would run"):
            jax.jit(tj.rope)(*turned)
    pytest.importorskip("triton")
    with tj.on_cpu("triton-cpu"), pytest.raises(tj.NoKernel, match="^rope has no Triton kernel yet, which triton-cpu"):
        tj.rope(*turned)


def test_what_a_kernel_refuses_is_a_sentence() -> None:
    q = jnp.ones((1, 1, 2, 300))
    with tj.on_cpu("nki-sim", target="trn2"):
        with pytest.raises(tj.NoKernel, match="^attention: .*300"):
            tj.attention(q, q, q)
        with pytest.raises(tj.NoKernel, match="^attention: .*300"):
            jax.jit(tj.attention)(q, q, q)
        with jax.enable_x64(True), pytest.raises(tj.NoKernel, match="^rmsnorm: .*float64, which is not a dtype of NKI"):
            tj.rms_norm(X.astype(jnp.float64), GAIN)


def test_shapes_alone_run_nothing() -> None:
    with tj.calls() as made:
        out = jax.eval_shape(lambda x: tj.cross_entropy(x, jnp.zeros(3, int), reduction="none"), X)
    assert out.shape == (3,) and made.count() == 0


def test_a_large_array_goes_through_a_compiled_program() -> None:
    """Calls that follow and calls beside each other, each of more bytes than JAX copies at once."""
    x = jnp.ones((1024, 1024))

    @jax.jit
    def program(x: Any) -> Any:
        return sum(tj.rms_norm(tj.rms_norm(x * i, x[0]), x[0]) for i in range(1, 4))

    np.testing.assert_allclose(program(x), 3, rtol=1e-4)


def test_other_platforms_are_an_error_that_names_them() -> None:
    program = jax.jit(tj.rms_norm).trace(X, GAIN)
    with pytest.raises(tj.NoKernel, match="for JAX on cpu, cuda and neuron, and rms_norm is on tpu$"):
        program.lower(lowering_platforms=("tpu",))
    with pytest.raises(tj.NoKernel, match="and rms_norm is on rocm$"):
        program.lower(lowering_platforms=("rocm",))


def test_on_neuron_the_nki_kernel_is_called_within_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in for what nki.jit gives, which takes JAX's tracers as AWS's does."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def on_device(row: str) -> Any:
        def kernel(*, x: Any, gain: Any, **params: Any) -> Any:
            asked.append((row, params))
            return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + params["eps"]) * gain

        return kernel

    monkeypatch.setattr(collection, "on_device", on_device)
    with tj.calls() as made:
        text = (
            jax.jit(lambda x, g: tj.rms_norm(x, g, 1e-3)).trace(X, GAIN).lower(lowering_platforms=("neuron",)).as_text()
        )
    assert asked == [("rmsnorm", {"eps": 1e-3})] and "stablehlo.sqrt" in text
    assert [call.place for call in made.made] == [tj.Place("nki")]
    task = operators.Task(tj.rms_norm.__globals__["norm"], ("x", "gain"), (("eps", 1e-3),), of_cpu())
    (found,) = jax.jit(lambda *arrays: lowering.by_nki(*arrays, task=task))(X, GAIN)
    np.testing.assert_allclose(found, tj.rms_norm(X, GAIN, 1e-3), rtol=1e-5)


def test_on_neuron_tokens_are_appended_by_the_program() -> None:
    cache, new = jnp.zeros((2, 1, 5, 2)), jnp.ones((2, 1, 2, 2))
    found = lowering.append(cache, new, jnp.asarray([3, 0], jnp.int32))
    assert found[:, 0, :, 0].tolist() == [[0, 0, 0, 1, 1], [1, 1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"backend": "cuda"}, "on_cpu takes 'numpy', 'nki-sim', 'triton-cpu', got 'cuda'"),
        ({"backend": "nki-sim", "target": "trn9"}, "trn9"),
        ({"target": "trn2"}, "a target is a chip for 'nki-sim' to simulate, and 'numpy' has none; got 'trn2'"),
    ],
)
def test_a_place_that_does_not_exist_is_an_error(arguments: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence), tj.on_cpu(**arguments):
        pass
    assert of_cpu() == tj.Place("numpy")


def python(code: str, path: Path) -> str:
    """What a fresh Python that finds modules of `path` first prints."""
    source = Path(triptych.__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(path)!r}, {str(source)!r}]\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout + ran.stderr.strip().rpartition("\n")[2]


def test_a_broken_jax_is_one_sentence_and_triptych_does_without(tmp_path: Path) -> None:
    (tmp_path / "jax.py").write_text("raise OSError('libjax.so: no such file')\n")
    told = python("import triptych\nprint('jax' in sys.modules)\ntriptych.jax", tmp_path)
    assert told == (
        "False\nImportError: triptych.jax needs JAX 0.7.2 or later (pip install 'triptych[jax]'), and importing it "
        "failed: OSError: libjax.so: no such file"
    )
