"""The backend `nki` against stand-ins of AWS's nki and nrtpy, each in the process that it would have on an instance.

The stand-in of nki runs a kernel as Python on arrays and leaves its source as the NEFF; that of nrtpy runs such a NEFF.
STAND_IN names what goes wrong. What a device would do beyond that is not tested here.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.backends.base import KernelFault
from triptych.harness.backends.clocks import TimingBudget
from triptych.harness.backends.neuron import faults, parts
from triptych.harness.backends.nki_device import DeviceNote, NeuronDevice, measured
from triptych.harness.commands import doctor
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Measured

NKI = """
import inspect, json, os, pathlib, sys, textwrap
ARTIFACTS = pathlib.Path(os.environ["NKI_ARTIFACTS_DIR"])
class Kernel:
    def __init__(self, func):
        self.func = func
    def __getitem__(self, cores):
        return self
    def __call__(self, *args, **kwargs):
        wrong = os.environ.get("STAND_IN", "")
        print("a kernel or the compiler prints this")
        if any(ARTIFACTS.iterdir()):
            raise RuntimeError("NCC_IDRV077: artifacts directory is not empty")
        if wrong == "no compiler":
            raise FileNotFoundError("[Errno 2] No such file or directory: 'neuronx-cc'")
        if wrong == "dies":
            print("Assertion failed: TDRV neuron core 0 is in use by pid 12", file=sys.stderr, flush=True)
            os.abort()
        bound = inspect.signature(self.func).bind(*args, **kwargs).arguments
        source = textwrap.dedent(inspect.getsource(self.func)).partition("\\n")[2]
        names = [name for name, x in bound.items() if hasattr(x, "dtype")]
        constants = {name: x for name, x in bound.items() if name not in names}
        if wrong != "no neff":
            text = json.dumps({"source": source, "name": self.func.__name__, "names": names, "constants": constants})
            (ARTIFACTS / "kernel.neff").write_text(text)
            (ARTIFACTS / "more").mkdir()
        if wrong == "cached":
            print("Using a cached neff")
        if wrong == "oob":
            raise RuntimeError("NRT Error NRT_EXEC_OOB(1006): Failed to execute model")
        return self.func(*args, **kwargs)
    def _to_subclass(self, kind, **settings):
        return kind(self, **settings)
def jit(func):
    return Kernel(func)
"""
COMPILED = """
class Result:
    latency = 67e-6
class StandaloneKernel:
    def __init__(self, kernel, _executor, target, lnc, artifacts_dir):
        self.kernel, self.executor = kernel, _executor
        assert target == "trn2" and lnc == 1
    def __call__(self, *args, **kwargs):
        kernel = self.kernel
        class Compiled:
            def benchmark(self, warmup, iterations, **inputs):
                Result.outputs = kernel.func(*args, **kwargs)
                return Result
        return self.executor(Compiled(), {}, None)
"""
NRTPY = """
import json, os, numpy as np
class NrtError(RuntimeError):
    pass
class NrtpyTensor:
    def __init__(self, array): self.array = array
    def numpy(self): return self.array
    @classmethod
    def from_numpy(cls, array, name, core_id=0): return cls(array.copy())
class Stats:
    pass
class NrtpyModel:
    @classmethod
    def load_from_neff(cls, path, core_id=0):
        if os.environ.get("STAND_IN") == "other chip":
            raise NrtError("NRT Error NRT_HW_ERROR(6): Failed to load")
        model = cls()
        model.neff = json.loads(open(path).read())
        model.input_tensors_info = dict.fromkeys(model.neff["names"])
        return model
    def __call__(self, inputs):
        names = dict(np=np, ml_dtypes=__import__("ml_dtypes"))
        exec(self.neff["source"], names)
        arrays = {name: tensor.array for name, tensor in inputs.items()}
        for name, x in arrays.items():
            if x.dtype == np.uint16: arrays[name] = x.view(names["ml_dtypes"].bfloat16)
        out = names[self.neff["name"]](**arrays, **self.neff["constants"])
        out = out if isinstance(out, tuple) else (out,)
        if os.environ.get("STAND_IN") == "wrong": out = tuple(x + 1 for x in out)
        return {f"output_{i}": NrtpyTensor(x) for i, x in reversed(list(enumerate(out)))}
    def benchmark(self, inputs, warmup_iter, benchmark_iter, mode):
        self(inputs)
        stats, both = Stats(), os.environ.get("STAND_IN") == "both cores"
        one = [0.05, 0.067] if both and mode == "device" else [0.067 if mode == "device" else 0.2]
        stats.durations_ms = one * benchmark_iter
        return stats
"""
KERNELS = """
import nki
@nki.jit
def scaled(x, y, factor=1.0):
    return (x * factor + y).astype(x.dtype)
@nki.jit
def two(x):
    return x + x, x.sum(axis=1)
@nki.jit
def grown(x):
    x += 1
@nki.jit
def raises(x):
    assert x.shape[0] == 3, "three rows, please"
"""
QUICK = TimingBudget(warmup_seconds=0, seconds=0.01, fewest=3, most=12)


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that looks like an instance of Trn2, with everything installed."""
    here, there = tmp_path / "nki-env", tmp_path / "nrtpy-env"
    (here / "nki" / "framework").mkdir(parents=True)
    there.mkdir()
    (here / "nki" / "__init__.py").write_text(NKI)
    (here / "nki" / "isa.py").write_text("")
    (here / "nki" / "framework" / "compiled.py").write_text(COMPILED)
    (here / "nki-0.7.0.dist-info").mkdir()
    (here / "nki-0.7.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: nki\nVersion: 0.7.0\n")
    (here / "neuronxcc").mkdir()
    (here / "neuronxcc" / "__init__.py").write_text("")
    (here / "neuronx-cc").write_text("#!/bin/sh\n")
    (here / "neuronx-cc").chmod(0o755)
    (there / "nrtpy.py").write_text(NRTPY)
    (tmp_path / "neuron0").write_text("")
    (tmp_path / "kernels.py").write_text(KERNELS)
    monkeypatch.setattr(parts, "DEVICE", str(tmp_path / "neuron0"))
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")
    monkeypatch.setenv("TRIPTYCH_NRTPY_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(there))
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    monkeypatch.setenv("PATH", str(here), prepend=":")
    monkeypatch.syspath_prepend(here)
    return tmp_path


@pytest.fixture
def device() -> Iterator[NeuronDevice]:
    made = NeuronDevice(warm_up_s=0)
    yield made
    made.process.clear()


def problem(folder: Path, kernel: str, reference: Any, dtype: str = "float32", **settings: Any) -> Problem:
    op = Op(
        kernel, {"x": ("M", "N")}, reference, [{"M": 4, "N": 8}], nki=f"{folder / 'kernels.py'}:{kernel}", **settings
    )
    x = np.arange(32).reshape(4, 8).astype(dtype)
    return Problem(op, Case(kernel, "4x8", {"M": 4, "N": 8}, dtype), {"x": x})


def scaled(folder: Path, dtype: str = "float32") -> Problem:
    op = Op(
        "scaled",
        {"x": ("M", "N"), "y": ("M", "N")},
        lambda x, y, factor: x * factor + y,
        [{"M": 4, "N": 8}],
        nki=f"{folder / 'kernels.py'}:scaled",
    )
    x = np.arange(32).reshape(4, 8).astype(dtype)
    return Problem(op, Case("scaled", "4x8", {"M": 4, "N": 8}, dtype, {"factor": 2.0}), {"x": x, "y": x + 1})


def quietly(device: NeuronDevice, one: Problem) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeviceNote)
        return device.run(one, None)


def test_a_right_kernel_is_run_and_timed_by_the_devices_clock(
    instance: Path, device: NeuronDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert device.missing() is None
    monkeypatch.setenv("STAND_IN", "cached")
    one = scaled(instance, "bfloat16")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        out = device.run(one, None)
    assert out.dtype == one.inputs["x"].dtype and (out == one.inputs["x"] * 2 + one.inputs["y"]).all()
    (note,) = [device.note(w) for w in caught]
    assert note.startswith("nki 0.7.0: compiled, loaded and run once in ") and note.endswith("its cache served")
    seen: list[Any] = []
    timing = device.time(one, None, TimingBudget(0, 0.01, 3, 12, look=seen.append))
    assert isinstance(timing, Measured)
    assert (timing.timer, timing.evidence) == ("device clock, nrtpy", Evidence.DEVICE)
    assert timing.median_us == pytest.approx(67) and timing.host_us == pytest.approx(200)
    assert len(timing.samples_us) == 12 and timing.warmups >= 2
    (timed,) = seen
    assert timed.dtype == out.dtype and timed.tobytes() == out.tobytes()
    assert device.process.process is None  # it let go of the core


def test_outputs_of_the_timed_neff_are_handed_over_to_be_judged(
    instance: Path, device: NeuronDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN", "wrong")
    one, seen = scaled(instance), list[Any]()
    device.time(one, None, TimingBudget(0, 0.01, 3, 12, look=seen.append))
    assert (seen[0] == one.inputs["x"] * 2 + one.inputs["y"] + 1).all()


def test_several_outputs_and_changed_inputs_come_back_by_name(instance: Path, device: NeuronDevice) -> None:
    one = problem(instance, "two", lambda x: (x + x, x.sum(axis=1)))
    out, seen = quietly(device, one), list[Any]()
    assert list(out) == ["0", "1"] and out["1"].shape == (4,)
    device.time(one, None, TimingBudget(0, 0.01, 3, 12, look=seen.append))
    assert all((seen[0][name] == out[name]).all() for name in out)
    one = problem(instance, "grown", lambda x: x + 1, mutates=("x",))
    out = quietly(device, one)
    assert (out.changed["x"] == one.inputs["x"] + 1).all() and one.inputs["x"][0, 0] == 0


def test_at_two_cores_a_launch_lasts_as_long_as_the_slower(instance: Path, device: NeuronDevice) -> None:
    timing = measured({"durations_ms": [0.05, 0.067, 0.07, 0.06], "iterations": 2, "warmups": 3}, "clock", 2)
    assert timing.samples_us == pytest.approx([67, 70])
    with pytest.raises(KernelFault, match="gave 3 durations for 2 launches on 2 cores"):
        measured({"durations_ms": [1, 1, 1], "iterations": 2, "warmups": 0}, "clock", 2)
    with pytest.raises(KernelFault, match="gave 4 durations for 2 launches on 1 cores"):
        measured({"durations_ms": [1] * 4, "iterations": 2, "warmups": 0}, "clock", 1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("oob", "reads or writes out of bounds.*NRT_EXEC_OOB"),
        ("no compiler", "the command neuronx-cc is not on PATH"),
        ("dies", "ended by signal 6: another process holds the core"),
    ],
)
def test_what_goes_wrong_in_a_call_is_a_sentence(
    instance: Path, device: NeuronDevice, monkeypatch: pytest.MonkeyPatch, wrong: str, words: str
) -> None:
    monkeypatch.setenv("STAND_IN", wrong)
    with pytest.raises(KernelFault, match=words):
        quietly(device, scaled(instance))
    monkeypatch.delenv("STAND_IN")
    if wrong == "dies":  # the next call has a process again
        assert quietly(device, scaled(instance)).shape == (4, 8)


def test_an_error_of_the_kernel_names_its_line(instance: Path, device: NeuronDevice) -> None:
    with pytest.raises(KernelFault, match=r"AssertionError: three rows, please \(kernels.py:14\)"):
        quietly(device, problem(instance, "raises", lambda x: x))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("other chip", "the NEFF is for another chip than this one, for which NEURON_PLATFORM_TARGET_OVERRIDE"),
        ("no neff", "left no NEFF in the folder of NKI_ARTIFACTS_DIR"),
    ],
)
def test_what_goes_wrong_in_timing_is_a_sentence(
    instance: Path, device: NeuronDevice, monkeypatch: pytest.MonkeyPatch, wrong: str, words: str
) -> None:
    monkeypatch.setenv("STAND_IN", wrong)
    with pytest.raises(KernelFault, match=words):
        device.time(scaled(instance), None, QUICK)


def test_without_nrtpy_nkis_own_clock_is_taken_and_says_so(
    instance: Path, device: NeuronDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIPTYCH_NRTPY_PYTHON")
    timing = device.time(scaled(instance), None, QUICK)
    assert isinstance(timing, Measured)
    assert timing.timer == "internal clock of nki 0.7.0" and timing.median_us == pytest.approx(67)
    (instance / "nki-env" / "nki" / "framework" / "compiled.py").unlink()
    device.process.stop()
    with pytest.raises(
        KernelFault, match="no clock of the device is here: make an environment .* Moved: this nki has no"
    ):
        device.time(scaled(instance), None, QUICK)


def test_doctor_says_which_part_is_missing_and_the_next_step(instance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> str:
        return doctor.neuron(parts.parts())

    (instance / "nrtpy-env" / "nrtpy.py").rename(instance / "nrtpy.py")
    assert "next step: nrtpy: " in told() and "has no nrtpy that can be imported" in told()
    monkeypatch.setenv("TRIPTYCH_NRTPY_PYTHON", "nowhere")
    assert "names 'nowhere', which is no program" in told()
    (instance / "nki-env" / "neuronx-cc").unlink()
    assert "next step: neuronx-cc: activate the environment" in told() and "neuronx-cc is not on PATH" in told()
    (instance / "nki-env" / "nki" / "isa.py").unlink()
    assert "the installed nki 0.7.0 is the placeholder of the public registry, not AWS's" in told()
    assert "next step: nki: `pip uninstall nki`" in told()
    monkeypatch.delenv("NEURON_PLATFORM_TARGET_OVERRIDE")
    monkeypatch.setattr(parts, "PRODUCT", instance / "product")
    assert "next step: chip: set NEURON_PLATFORM_TARGET_OVERRIDE to" in told()
    (instance / "product").write_text("trn2u.48xlarge\n")
    assert parts.target() == "trn2"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RuntimeError: NCC_IDRV077 folder", "the folder of artifacts was not empty"),
        ("nrt_init failed, status=4", "the runtime could not get a resource"),
        ("NRT Error NRT_UNSUPPORTED_NEFF_VERSION(10): x", "the runtime is older than the compiler"),
        ("ImportError: libnrt.so.1: cannot open shared object file", "the Neuron runtime is not on the library path"),
        ("Resource busy: NeuronCore 0", "another process holds the core"),
        ("something new", "something new"),
        ("", "it said nothing"),
    ],
)
def test_known_errors_of_aws_are_explained_and_others_told(text: str, words: str) -> None:
    assert faults.sentence(text).startswith(words)


def test_bfloat16_goes_to_nrtpy_as_integers_of_its_size() -> None:
    assert np.dtype(ml_dtypes.bfloat16).isbuiltin != 1 and np.dtype(np.float16).isbuiltin == 1
