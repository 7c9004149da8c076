"""Public measurements: their records, the kernels that stand for them, and where public kernels are read from."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import bfloat16

from triptych import simulator
from triptych.harness.measured import POINTS
from triptych.harness.measured.records import (
    InFile,
    Named,
    Ours,
    Tensor,
    active,
    duration,
    pitch,
    until,
    until_last_byte,
    utilised_us,
)
from triptych.harness.measured.sources import AUTOTUNE, LIBRARY, SDK, NotHere, Public, code_blocks

KERNEL = "import nki, os\nos.environ['LEFT_BEHIND'] = '1'\n@nki.jit\ndef kernel(x):\n    return x\n"


def test_each_point_is_one_measurement() -> None:
    seen = Counter((point.call.name, point.call.target, point.case, point.what) for point in POINTS)
    assert [key for key, n in seen.items() if n > 1] == []
    for point in POINTS:
        assert point.measured_us > 0 and point.source and any(c.isdigit() for c in point.printed)
        assert point.call.target in simulator.TARGETS and point.call.cores in (1, 2)


def test_the_points_of_one_page_are_all_for_calibration_or_all_for_validation() -> None:
    uses: dict[str, set[str]] = {}
    for point in POINTS:
        uses.setdefault(point.source.split(",")[0], set()).add(point.use)
    assert {page: use for page, use in uses.items() if len(use) > 1} == {}
    assert {use for found in uses.values() for use in found} == {"calibration", "validation"}


def test_points_of_one_call_stand_together() -> None:
    calls = [point.call for point in POINTS]
    changes = sum(a is not b for a, b in zip(calls, calls[1:], strict=False))
    assert changes == len({id(call) for call in calls}) - 1


def test_a_share_of_the_peak_as_a_time() -> None:
    # nki-autotune prints both for one run: 89.47 % and 0.2442 ms.
    assert utilised_us(89.47, 2 * 2048**3, 78.64) == pytest.approx(244.2, rel=1e-3)


def kernel(name: str, file: str = "single.py") -> simulator.Kernel:
    return Ours(name, file).load(Public())


RNG = np.random.default_rng(0)


def test_our_kernels_of_single_instructions() -> None:
    x = RNG.standard_normal((8, 32)).astype(np.float32)
    np.testing.assert_allclose(simulator.run(kernel("exp_of_tile"), x).outputs, np.exp(x), rtol=1e-5)
    np.testing.assert_array_equal(simulator.run(kernel("dependent_activations"), x[:, :1], 3).outputs, x[:, :1])
    squares = simulator.run(kernel("sum_of_squares"), x).outputs
    np.testing.assert_allclose(squares[:, 0], (x**2).sum(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(simulator.run(kernel("load"), x).outputs, x[:, :1])
    scaled = simulator.run(kernel("largest_magnitude"), x).outputs.astype(np.float32)
    np.testing.assert_allclose(scaled, x * np.abs(x).max(axis=1, keepdims=True), rtol=0.07, atol=1e-2)
    w = RNG.standard_normal((8, 16)).astype(np.float32)
    chained = simulator.run(kernel("chain_of_matmuls"), w, x, 3).outputs
    np.testing.assert_allclose(chained, 3 * w.T @ x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["scan_states_outside", "scan_states_inside"])
def test_our_state_space_layer(name: str) -> None:
    channels, length, states = 256, 1024 if name.endswith("inside") else 512, 2
    d, u = (RNG.random((channels, length)).astype(np.float32) for _ in range(2))
    a = -RNG.random((channels, states)).astype(np.float32)
    b, c = (RNG.random((states, length)).astype(np.float32) for _ in range(2))
    expected = np.zeros((channels, length))
    h = np.zeros((channels, states))
    for t in range(length):
        h = np.exp(d[:, t, None] * a) * h + (d[:, t] * u[:, t])[:, None] * b[:, t]
        expected[:, t] = h @ c[:, t]
    out = simulator.run(kernel(name, "scan.py"), d, u, a, b, c, target="trn1").outputs
    np.testing.assert_allclose(out, expected, rtol=1e-4)


def test_our_kernels_of_a_course() -> None:
    a, b = (RNG.standard_normal(96).astype(np.float32) for _ in range(2))
    np.testing.assert_array_equal(simulator.run(kernel("chunks_added", "vectors.py"), a, b, 32).outputs, a + b)
    a, b = a.reshape(8, 12), b.reshape(8, 12)
    np.testing.assert_array_equal(simulator.run(kernel("columns_added", "vectors.py"), a, b, 4).outputs, a + b)
    x = RNG.standard_normal((256, 128)).astype(np.float32)
    np.testing.assert_array_equal(simulator.run(kernel("transposed", "vectors.py"), x).outputs, x.T)


@pytest.mark.parametrize(("cores", "m_tiles"), [(1, 1), (1, 2), (2, 2)])
def test_our_product_whose_columns_the_cores_share(cores: int, m_tiles: int) -> None:
    a, b = (RNG.standard_normal((512, columns)).astype(np.float32) for columns in (256, 2048))
    product = kernel("product_in_blocks", "products.py")
    run = simulator.run(product[cores] if cores > 1 else product, a, b, m_tiles, 2, 2)
    np.testing.assert_allclose(run.outputs, a.T @ b, rtol=1e-4, atol=1e-4)
    assert {event.core for event in run.trace.events} == set(range(cores))


def test_our_product_that_sums_in_the_dtype_of_its_output() -> None:
    a, b = (RNG.standard_normal((512, columns)).astype(bfloat16) for columns in (128, 512))
    exact = a.astype(np.float32).T @ b.astype(np.float32)
    product = kernel("product_in_blocks", "products.py")
    off = [
        np.abs(simulator.run(product, a, b, 1, 1, 1, wide=wide).outputs.astype(np.float32) - exact).max()
        for wide in (True, False)
    ]
    assert off[0] <= 2**-8 * np.abs(exact).max() < 2 * off[1] and off[0] < off[1]


@pytest.mark.parametrize(("blocks", "transfers", "megabytes"), [((1, 1, 1), 1152, 96), ((16, 2, 8), 96, 64)])
def test_our_blocks_move_what_a_profile_of_theirs_counted(
    blocks: tuple[int, int, int], transfers: int, megabytes: int
) -> None:
    square = simulator.ShapeDtype((2048, 2048), "float32")
    prediction = simulator.predict(kernel("product_in_blocks", "products.py"), square, square, *blocks)
    events = prediction.timeline.trace.events
    assert sum(event.op.startswith("dma") for event in events) == transfers
    assert prediction.hbm_bytes == megabytes * 2**20


@pytest.mark.parametrize(
    ("name", "arguments", "transfers"),
    [
        ("product_of_tiles", (), 2 * 32 + 8),
        ("product_of_tiles", (True,), 2 * 32 + 8),
        ("product_with_a_kept", (), 8 + 32 + 8),
        ("product_with_b_kept", (), 16 + 32 + 8),
        ("product_with_b_kept", (1, True), 16 + 32 + 8),
        ("product_with_b_kept", (2,), 8 + 16 + 8),
        ("product_in_halves", (), 2 * 32 + 8),
        ("product_by_dma_that_computes", (), 2 * 32 + 8),
        ("product_of_transposed", (), 2 * 32 + 8),
    ],
)
def test_our_products_by_tiles(name: str, arguments: tuple[object, ...], transfers: int) -> None:
    a, b = (RNG.standard_normal((512, columns)).astype(bfloat16) for columns in (256, 2048))
    run = simulator.run(kernel(name, "tiles.py"), a, b, *arguments)
    expected = a.astype(np.float32).T @ b.astype(np.float32)
    np.testing.assert_allclose(run.outputs.astype(np.float32), expected, rtol=2**-7, atol=1e-3)
    assert sum(event.op.startswith("dma") for event in run.trace.events) == transfers


def test_our_copies_and_rmsnorm_by_rows() -> None:
    x, w = RNG.standard_normal((256, 64)).astype(bfloat16), RNG.standard_normal((1, 64)).astype(bfloat16)
    np.testing.assert_array_equal(simulator.run(kernel("copied_by_tiles", "rows.py"), x).outputs, x)
    chunks = simulator.run(kernel("copied_in_chunks", "rows.py"), x, 4)
    np.testing.assert_array_equal(chunks.outputs, x)
    assert len(chunks.trace.events) == 8
    wide = x.astype(np.float32)
    expected = wide / np.sqrt((wide**2).mean(axis=1, keepdims=True) + 1e-6) * w.astype(np.float32)
    out = simulator.run(kernel("normalised_by_tiles", "rows.py"), x, w).outputs.astype(np.float32)
    np.testing.assert_allclose(out, expected, rtol=2**-7, atol=1e-6)


def test_times_are_read_off_the_timeline() -> None:
    x = np.zeros((128, 128), np.float32)
    prediction = simulator.predict(kernel("exp_of_tile"), x)
    load, exp, store = prediction.timeline.spans
    triggered = prediction.chip.launch_ns.value + prediction.chip.gpsimd_launch_ns.value
    assert duration("dma_copy")(prediction) == load.busy_ns / 1e3
    assert duration("activation")(prediction) == (exp.end_ns - exp.start_ns) / 1e3
    assert until("activation")(prediction) == (exp.start_ns - triggered) / 1e3
    assert until_last_byte(prediction) == (store.free_ns - triggered) / 1e3
    assert active("scalar")(prediction) == pytest.approx(exp.busy_ns / 1e3)
    assert active("tensor")(prediction) == 0
    chain = simulator.predict(kernel("chain_of_matmuls"), x, np.zeros((128, 512), np.float32), 10)
    starts = [span.start_ns for span in chain.timeline.spans if span.track == "tensor"]
    once = (4 * 512 + 14) / 2.4
    assert np.diff(starts) == pytest.approx([2 * once] * 3 + [once] * 6)  # the first three at half the clock
    assert pitch("nc_matmul")(chain) == pytest.approx(once / 1e3)


def test_excerpts_of_a_page() -> None:
    page = "A page\n\n.. code-block:: python\n\n   def f():\n\n     return 1\n\nText\n\n.. code-block:: bash\n\n   ls\n"
    nested = "* item\n\n  .. code-block:: python\n\n      x = 1\n      y = 2\n  more\n"
    assert list(code_blocks(page)) == ["def f():\n\n  return 1\n"]
    assert list(code_blocks(nested)) == ["x = 1\ny = 2\n"]
    docstring = 'def f():\n    """What.\n\n    .. code-block:: python\n\n        z = 3\n        """\n'
    assert list(code_blocks(docstring)) == ["z = 3\n"]


def test_a_kernel_on_a_page(tmp_path: Path) -> None:
    (tmp_path / "nki" / "guides").mkdir(parents=True)
    block = "".join(f"   {line}\n" for line in KERNEL.splitlines())
    text = f".. code-block:: python\n\n   x = 1\n\n.. code-block:: python\n\n{block}\nEnd\n"
    (tmp_path / "nki" / "guides" / "page.rst").write_text(text)
    public = Public([tmp_path])
    assert isinstance(public.excerpt(SDK, "nki/guides/page.rst", 0).kernel, simulator.Kernel)
    assert "LEFT_BEHIND" not in os.environ
    with pytest.raises(NotHere, match="has 1 kernels, and number 2 was measured"):
        public.excerpt(SDK, "nki/guides/page.rst", 1)
    with pytest.raises(NotHere, match=r"has no nki/guides/other\.rst; give a full git clone of aws-neuron"):
        public.excerpt(SDK, "nki/guides/other.rst", 0)


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, "-C", str(folder), *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_kernel_as_it_was_at_a_commit(tmp_path: Path) -> None:
    work, bare = tmp_path / "work", tmp_path / "bare"
    (work / "kernel_library").mkdir(parents=True)
    file = work / "kernel_library" / "k.py"
    git(work, "init", "-q")
    file.write_text(KERNEL + "VERSION = 1\n")
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", "first")
    first = git(work, "rev-parse", "HEAD")
    file.write_text(KERNEL + "VERSION = 2\n")
    git(work, "commit", "-q", "-a", "-m", "second")
    git(tmp_path, "clone", "-q", "--bare", str(work), str(bare))
    for path in (work, bare):
        public = Public([path])
        assert public.module(AUTOTUNE, "kernel_library/k.py", first).VERSION == 1
        assert public.module(AUTOTUNE, "kernel_library/k.py").VERSION == 2
        assert isinstance(InFile(AUTOTUNE, "kernel_library/k.py", "kernel", first).load(public), simulator.Kernel)
    with pytest.raises(NotHere, match="needs a checkout of aws-neuron/nki-library"):
        public.library("nkilib")


def test_a_module_of_the_library(tmp_path: Path) -> None:
    package = tmp_path / "src" / "nkilib_src" / "nkilib_of_test"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "kinds.py").write_text("import enum\nclass Norm(enum.Enum):\n    A = 1\n")
    (package / "kernels.py").write_text(
        "from nkilib_of_test.kinds import Norm\nclass Settings:\n"
        "    def __init__(self, norm):\n        self.norm = norm\n"
    )
    public = Public([tmp_path])
    assert LIBRARY in public.checkouts
    kind = Named("nkilib_of_test.kinds", "Norm.A")
    assert kind.resolve(public).value == 1
    made = Named("nkilib_of_test.kernels", "Settings", (("norm", kind), ("norm", kind))).resolve(public)
    assert made.norm is kind.resolve(public)


def test_a_path_that_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(NotHere, match="is no checkout of aws-neuron/aws-neuron-sdk"):
        Public([tmp_path])


def test_tensors_have_dtypes_of_nki() -> None:
    from triptych.simulator.dtypes import TABLE

    for point in POINTS:
        for value in (*point.call.arguments, *point.call.keywords.values()):
            assert not isinstance(value, Tensor) or value.dtype in TABLE
