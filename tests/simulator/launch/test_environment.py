"""Plain scripts: `import nki` after `import triptych`, and the environment variables that AWS's simulator has.

Each is a script of its own that a fresh interpreter runs (nki/guides/nki_simulator.rst).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import triptych
from triptych.simulator import TARGETS

HERE = str(Path(triptych.__file__).parents[1])
KERNELS = """
import sys
import triptych
import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

@nki.jit
def add(a, b):
    total = nl.add(nl.load(a), nl.load(b))
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    nl.store(out, value=total)
    return out

@nki.jit
def generation(a):
    tile = nl.full((1, 1), nisa.get_nc_version().value, nl.int32)
    out = nl.ndarray((1, 1), nl.int32, buffer=nl.shared_hbm)
    nl.store(out, tile)
    return out

@nki.jit
def through_bfloat16(a):
    low = nl.ndarray(a.shape, nl.bfloat16)
    nisa.dma_copy(low, a)
    out = nl.ndarray(a.shape, nl.float32, buffer=nl.shared_hbm)
    nisa.dma_copy(out, low)
    return out

a, b = np.full((4, 3), 1.0, np.float32), np.full((4, 3), 2.0, np.float32)
"""


@pytest.fixture
def script(tmp_path):
    """What a script prints, or its error, where the given variables are set and no others of NKI's."""

    def run(code, **variables):
        (tmp_path / "script.py").write_text(KERNELS + code)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("NKI_", "NEURON_"))}
        done = subprocess.run(
            [sys.executable, str(tmp_path / "script.py")],
            env={**environment, "PYTHONPATH": HERE, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        said = [line for line in done.stderr.splitlines() if line and not line[0].isspace()]
        return done.stdout.strip() if done.returncode == 0 else next(line for line in said if "Error: " in line)

    return run


def test_a_kernel_is_called_with_nki_simulator_and_simulated_without(script):
    assert script("print(add(a, b).sum())", NKI_SIMULATOR="1") == "36.0"
    direct = script("print(nki.simulate(add)(a, b).sum()); add(a, b)")
    assert direct.startswith("triptych.simulator.errors.KernelError: script.py:")
    assert "add was called directly and there is no Neuron device; use nki.simulate(kernel)(...) or set" in direct


def test_nki_simulator_takes_two_cores_and_plain_functions_stay_plain(script):
    code = "print(add[2](a, b).sum(), nki.simulate(add.function)(a, b).sum())"
    assert script(code, NKI_SIMULATOR="1") == "36.0 36.0"


def test_nki_simulator_takes_pytorch_tensors(script):
    pytest.importorskip("torch")
    code = (
        "import torch\nx = torch.ones(4, 3, dtype=torch.bfloat16)\ny = add(x, x)\n"
        "print(type(y).__name__, y.dtype, y.sum().item(), torch.equal(nki.simulate(add)(x, x), y))"
    )
    assert script(code, NKI_SIMULATOR="1") == "Tensor torch.bfloat16 24.0 True"


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_nki_simulator_takes_jax_arrays_which_awss_does_not(script):
    code = "import jax.numpy as jnp\nx = jnp.ones((4, 3), jnp.float16)\ny = add(x, x)\nprint(y.dtype, y.sum())"
    assert script(code, NKI_SIMULATOR="1") == "float16 24.0"


@pytest.mark.parametrize(
    ("targets", "version"), [(["trn1", "inf2", "gen2"], 2), (["trn2", "gen3"], 3), (["trn3", "gen4", None], 4)]
)
def test_the_target_of_the_environment(script, targets, version):
    """Read at each call, so that one script can go through several."""
    code = (
        f"import os\nfor target in {targets[1:]}:\n    print(nki.simulate(generation)(a)[0, 0], end=' ')\n"
        "    os.environ['NEURON_PLATFORM_TARGET_OVERRIDE'] = target or ''\n"
        "print(nki.simulate(generation)(a)[0, 0], nl.tile_size.sbuf_fmax_bytes)"
    )
    printed = script(code, NEURON_PLATFORM_TARGET_OVERRIDE=targets[0]).split()
    assert printed[:-1] == [str(version)] * len(targets)
    assert printed[-1] == {2: "196608", 3: "229376", 4: "262144"}[version]


def test_a_wrong_target_is_one_sentence(script):
    said = script("nki.simulate(generation)(a)", NEURON_PLATFORM_TARGET_OVERRIDE="tpu")
    assert said.endswith("NEURON_PLATFORM_TARGET_OVERRIDE is 'tpu'; expected one of " + ", ".join(TARGETS))


def test_nki_precise_fp(script):
    code = "print(nki.simulate(through_bfloat16)(np.full((1, 1), 1 + 2.0**-10, np.float32))[0, 0])"
    assert script(code) == script(code, NKI_PRECISE_FP="1") == "1.0"
    assert script(code, NKI_PRECISE_FP="0") == "1.0009766"
    assert "NKI_PRECISE_FP is 'no'; expected 0 or 1" in script(code, NKI_PRECISE_FP="no")
