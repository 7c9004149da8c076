"""`torch_neuronx` where there is none: kernels as operators of PyTorch on tensors of a device that stands for the CPU.

Importing it names PyTorch's free device for the whole process, so that each file runs in a Python of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import triptych

pytest.importorskip("torch")

SOURCE = Path(triptych.__file__).parents[1]
KERNELS = """
import os
import warnings

import numpy as np
import torch
import nki
import nki.isa as nisa
import nki.language as nl
from torch_neuronx import nki_op, wrap_nki


@nki.jit
def add_kernel(a, b):
    x = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.sbuf)
    y = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=x, src=a)
    nisa.dma_copy(dst=y, src=b)
    nisa.tensor_tensor(dst=x, data1=x, data2=y, op=nl.add)
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=x)
    return out


@nki.jit
def put_kernel(cache, x):
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    nisa.dma_copy(dst=cache[0 : x.shape[0], :], src=tile)
    return cache


@nki_op("mine::add", mutates_args={})
def add(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return add_kernel(a, b)


@nki_op("mine::put", mutates_args={"cache"})
def put(cache: torch.Tensor, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    return put_kernel(cache, x if y is None else add_kernel(x, y))
"""
QUICKSTART = """
device = torch.device("neuron")
a = torch.ones((4, 3), dtype=torch.float16, device=device)
b = torch.full((4, 3), 2.0).to(device, torch.float16)
assert a.dtype == b.dtype == torch.float16
assert torch.equal(add_kernel(a, b).cpu(), torch.full((4, 3), 3.0, dtype=torch.float16))
for launch in (wrap_nki(add_kernel), wrap_nki(add_kernel)[1], wrap_nki(add_kernel)[[2]]):
    assert torch.equal(launch(a, b), add_kernel(a, b))

here = torch.zeros(2, 3)
there = here.to("neuron:0")
there += 1
assert float(here.sum()) == 0 and torch.randn(2, device="neuron").shape == (2,)
assert torch.nn.Linear(3, 2, device="neuron")(there).shape == torch.nn.Linear(3, 2).to(device="neuron")(there).shape

add.register_autograd(lambda ctx, g: (g, 3 * g), setup_context=lambda ctx, inputs, output: None)
x = torch.randn(4, 3, device="neuron", requires_grad=True)
y = torch.randn(4, 3, device="neuron", requires_grad=True)
add(x, y).sum().backward()
assert torch.equal(x.grad, torch.ones(4, 3)) and torch.equal(y.grad, 3 * torch.ones(4, 3))
torch.library.opcheck(add, (x, y))

cache = torch.zeros(6, 3, device="neuron")
returned = put(cache, torch.ones(2, 3))
assert torch.equal(cache, torch.tensor([1.0] * 2 + [0.0] * 4)[:, None].expand(6, 3))
assert torch.equal(returned, cache) and returned is not cache

for backend in ("neuron", "aot_eager"):
    both = torch.compile(lambda c, x: put(c, x, x) + add(x, x).sum(), backend=backend, fullgraph=True)
    cache.zero_()
    assert torch.equal(both(cache, torch.ones(1, 3)), cache + 6) and float(cache.sum()) == 6

graphs = {
    "direct": lambda x, y: add_kernel(x, y) * 3,
    "on cores": lambda x, y: add_kernel[1](x, b=y) * 3,
    "wrapped": lambda x, y: wrap_nki(add_kernel)[[1]](x, y) * 3,
}
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    torch.compile(graphs["on cores"], backend="neuron", fullgraph=True)(a, b)
assert "add_kernel runs on one core in a graph, for which AWS's compiler takes two" in str(said[-1].message)
os.environ["NEURON_LOGICAL_NC_CONFIG"] = "1"
for graph in graphs.values():
    assert torch.equal(torch.compile(graph, backend="neuron", fullgraph=True)(a, b), 3 * (a + b))
try:
    torch.compile(graphs["direct"], backend="aot_eager", fullgraph=True)(a, b)
except Exception as error:
    print("wrap it in nki_op" in str(error))
"""


def python(code: str, *paths: Path, **environment: str) -> str:
    """What a fresh interpreter prints, or the last line of its error."""
    source = os.pathsep.join([*map(str, paths), str(SOURCE)])
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": source, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout.strip() if ran.returncode == 0 else ran.stderr.strip().rpartition("\n")[2]


def test_the_quickstart_runs() -> None:
    assert python(f"import triptych\n{KERNELS}{QUICKSTART}", NEURON_PLATFORM_TARGET_OVERRIDE="trn2") == "True"


@pytest.mark.slow
def test_an_operator_runs_on_a_simulator_of_ones_own() -> None:
    code = f"""import triptych
from triptych import simulator
{KERNELS}
a, b = np.ones((4, 3), np.float32), np.ones((4, 3), np.float32)
run = simulator.on("trn2").run(add, a, b)
assert isinstance(run.outputs, np.ndarray) and (run.outputs == 2).all() and run.trace.target == "trn2"
cache = np.zeros((6, 3), np.float32)
run = simulator.on("trn2").run(put, cache, a, y=b)
assert cache[:4].sum() == 24 and (run.outputs == cache).all()
try:
    run.trace.events
except simulator.NkiError as error:
    print(error.message)
shape = simulator.ShapeDtype((4, 3), "bfloat16")
run = simulator.on("trn2").run(add, shape, shape)
assert run.outputs.shape == (4, 3) and str(run.outputs.dtype) == "bfloat16"
assert simulator.on("trn2").predict(add, a, b).total_us == simulator.on("trn2").predict(add_kernel, a, b).total_us
assert torch.equal(simulator.on("trn2").run(add, torch.ones(4, 3), torch.ones(4, 3)).outputs, torch.full((4, 3), 2.0))
"""
    assert python(code) == "mine::put launches 2 kernels, and a trace is of one: predict the kernels one by one"


WRONG = {
    "nki_op('add', lambda a: a)": "nki_op takes a name as \"namespace::operator\", got 'add'",
    "nki_op('mine::kernel', add_kernel)": "nki_op wraps a function of tensors that calls a kernel, and add_kernel is",
    "wrap_nki(abs)": "wrap_nki takes what nki.jit gives, got builtin_function_or_method",
    "import torch_neuronx; torch_neuronx.xla_trace": "has nki_op and wrap_nki alone, no xla_trace",
}


@pytest.mark.slow
def test_what_it_cannot_do_is_told_and_the_lighter_package_has_the_same() -> None:
    code = f"import triptych, torch_neuronx.nki_hop, libtorch_neuronx_lite.nki.nki_hop as lite\n{KERNELS}"
    code += "assert lite.wrap_nki is torch_neuronx.nki_hop.wrap_nki is wrap_nki\n"
    for wrong in WRONG:
        code += f"try:\n    {wrong}\nexcept Exception as error:\n    print(error)\n"
    for told, sentence in zip(python(code).splitlines(), WRONG.values(), strict=True):
        assert sentence in told


@pytest.mark.slow
def test_a_real_one_stays_and_a_kernel_file_still_gets_ours(tmp_path: Path) -> None:
    (tmp_path / "torch_neuronx.py").write_text("REAL = True\n")
    (tmp_path / "kernel.py").write_text(KERNELS)
    code = f"""import triptych, sys
import torch_neuronx
assert torch_neuronx.REAL
from triptych import simulator
module = simulator.load({str(tmp_path / "kernel.py")!r})
assert sys.modules["torch_neuronx"] is torch_neuronx
import torch
print(float(module.add(torch.ones(2, 2), torch.ones(2, 2)).sum()))
"""
    assert python(code, tmp_path) == "8.0"


def test_without_pytorch_it_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch')\n")
    told = python("import triptych\nimport torch_neuronx", tmp_path)
    assert told == "ImportError: torch_neuronx needs PyTorch, and importing it failed: no torch"
