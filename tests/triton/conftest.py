"""Every test of a Triton kernel runs twice: through the interpreter, and on a GPU where there is one."""

from __future__ import annotations

import importlib.util

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.emulators import interpret, version_support

MISSING = version_support()


class _Skipped(pytest.File):
    """A test module that would import Triton where there is none that the emulation knows."""

    def collect(self):
        raise pytest.skip.Exception(MISSING, allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    return None if MISSING is None else _Skipped.from_parent(parent, path=module_path)


DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


@pytest.fixture(params=list(DTYPES))
def dtype(request):
    return np.dtype(DTYPES[request.param])


@pytest.fixture
def told(monkeypatch):
    """told("sm_100") has launchers told that they run on that GPU, while the interpreter runs their kernels."""
    from triptych.harness.emulators import devices

    def tell(name):
        pretend, device = devices.pretend, devices.DEVICES[name]
        monkeypatch.setattr(devices, "pretend", lambda _: pretend(device))

    return tell


@pytest.fixture(params=["interpreted", pytest.param("device", marks=pytest.mark.gpu)])
def run(request):
    """run(launcher, arrays, out, **params) fills `out`, poisoned first."""
    if request.param == "device":
        if importlib.util.find_spec("torch") is None:
            pytest.skip("PyTorch is not installed")
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA or ROCm device")
    on = interpret if request.param == "interpreted" else _on_device

    def run(launcher, arrays, out, **params):
        out[...] = np.nan
        on(launcher, arrays, out, **params)
        return out.astype(np.float64)

    return run


def _on_device(launcher, arrays, out, **params):
    import torch

    def tensor(array):
        bits = torch.from_numpy(np.ascontiguousarray(array).view(f"i{array.itemsize}"))
        return bits.cuda().view(getattr(torch, array.dtype.name))

    result = tensor(out)
    launcher(**{name: tensor(array) for name, array in arrays.items()}, out=result, **params)
    out[...] = result.view(getattr(torch, f"int{8 * out.itemsize}")).cpu().numpy().view(out.dtype)
