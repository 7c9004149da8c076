"""`verify-device` through both processes of the backend `nki`: our kernels, a nki and an nrtpy that simulate them.

Unlike with the stand-in of test_calibration.py, nothing of the backend is replaced: the probes and a kernel of the
collection are loaded, called and kept as NEFFs in one process, and timed in another.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from triptych.harness.backends import BACKENDS
from triptych.harness.backends.neuron import parts
from triptych.harness.backends.nki_device import NeuronDevice
from triptych.harness.calibration import probes
from triptych.harness.collection import builtin
from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode
from triptych.harness.running.runner import InThisProcess
from triptych.harness.running.session import Session

NKI = """
import importlib, inspect, json, os, pathlib, sys
for name in ("language", "isa"):
    globals()[name] = sys.modules[f"nki.{name}"] = importlib.import_module(f"triptych.nki.{name}")
class Kernel:
    def __init__(self, func, cores=1):
        self.func, self.cores = func, cores
    def __getitem__(self, cores):
        return Kernel(self.func, cores)
    def __call__(self, *args, **kwargs):
        from triptych import nki, simulator
        import numpy as np
        bound = inspect.signature(self.func).bind(*args, **kwargs).arguments
        plain = {name: x for name, x in bound.items() if not isinstance(x, np.ndarray)}
        neff = {"file": self.func.__code__.co_filename, "name": self.func.__name__, "cores": self.cores,
                "names": {name: x.dtype.name for name, x in bound.items() if name not in plain}, "constants": plain}
        (pathlib.Path(os.environ["NKI_ARTIFACTS_DIR"]) / "kernel.neff").write_text(json.dumps(neff))
        return simulator.run(nki.jit(self.func)[self.cores], *args, target="trn2", **kwargs).outputs
def jit(func):
    return Kernel(func)
"""
NRTPY = """
import json, pathlib
class NrtpyTensor:
    def __init__(self, array): self.array = array
    def numpy(self): return self.array
    @classmethod
    def from_numpy(cls, array, name): return cls(array.copy())
class NrtpyModel:
    @classmethod
    def load_from_neff(cls, path, core_id):
        model = cls()
        model.neff = json.loads(pathlib.Path(path).read_text())
        model.input_tensors_info = dict.fromkeys(model.neff["names"])
        return model
    def run(self, inputs):
        from triptych import simulator
        kernel = getattr(simulator.load(self.neff["file"]), self.neff["name"])[self.neff["cores"]]
        import ml_dtypes, numpy as np
        dtypes = {name: np.dtype(getattr(ml_dtypes, dtype, dtype)) for name, dtype in self.neff["names"].items()}
        arrays = {name: tensor.array.view(dtypes[name]) for name, tensor in inputs.items()}
        return simulator.run(kernel, target="trn2", **arrays, **self.neff["constants"])
    def __call__(self, inputs):
        found = self.run(inputs).outputs
        return {f"output_{i}": NrtpyTensor(x) for i, x in enumerate(found if isinstance(found, tuple) else (found,))}
    def benchmark(self, inputs, warmup_iter, benchmark_iter, mode):
        from triptych import simulator
        ms = simulator.predict_trace(self.run(inputs).trace).total_us / 1e3
        cores = self.neff["cores"] if mode == "device" else 1
        return type("Result", (), {"durations_ms": [ms, 0.9 * ms][:cores] * benchmark_iter})
"""


@pytest.mark.slow
def test_kernels_of_ours_go_through_both_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = tmp_path / "nki-env", tmp_path / "nrtpy-env"
    (here / "nki").mkdir(parents=True)
    there.mkdir()
    (here / "nki" / "__init__.py").write_text(NKI)
    (here / "nki" / "isa.py").write_text("")
    (here / "neuronxcc").mkdir()
    (here / "neuronxcc" / "__init__.py").write_text("")
    (here / "neuronx-cc").write_text("#!/bin/sh\n")
    (here / "neuronx-cc").chmod(0o755)
    (there / "nrtpy.py").write_text(NRTPY)
    (tmp_path / "neuron0").write_text("")
    source = Path(probes.__file__).parents[2] / "src"
    monkeypatch.setattr(parts, "DEVICE", str(tmp_path / "neuron0"))
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")
    monkeypatch.setenv("TRIPTYCH_NRTPY_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", f"{there}:{source}")
    monkeypatch.setenv("PATH", str(here), prepend=":")
    monkeypatch.syspath_prepend(here)
    monkeypatch.chdir(tmp_path)
    device = NeuronDevice(warm_up_s=0)
    monkeypatch.setitem(BACKENDS, "nki", device)
    ops = {op.name: op for op in probes.OPS} | builtin()
    words = ("verify-device", "rmsnorm", "--dtype", "bfloat16", "--probes", "probe_launch,probe_two_cores")
    try:
        code = cli.main(words, Session(InThisProcess(ops)))
    finally:
        device.process.clear()
    text = capsys.readouterr().out
    assert code == ExitCode.OK, text
    rows = [line.split() for line in text.splitlines() if line.startswith(("probe_", "rmsnorm "))]
    assert len(rows) == 8 and all(row[-1] in ("+0.0%", "-0.0%") for row in rows), text
    results = json.loads(Path("triptych-device.json").read_text())["results"]
    timed = [row for row in results if row["backend"] == "nki"]
    assert len(timed) == 8 and {row["timing"]["timer"] for row in timed} == {"device clock, nrtpy"}
    assert all(any("compiled, loaded and run once" in note for note in row["notes"]) for row in timed)
    assert all(row["parity"]["nki-sim[trn2]"]["identical"] == 1 for row in timed)
