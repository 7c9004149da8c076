"""An observer sees every instruction after it has written, with what it read and wrote, and changes nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np

from triptych import simulator
from triptych.simulator import Options
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki
    import nki.isa as nisa
    import nki.language as nl

ENGINES = Path(simulator.__file__).parent / "engines"


@nki.jit
def kernel(x):
    """exp(x @ x.T) + 1, one instruction an engine, the last in place."""
    n = x.shape[0]
    out = nl.ndarray((n, n), dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    product = nl.ndarray((n, n), dtype=nl.float32, buffer=nl.psum)
    nisa.nc_matmul(dst=product, stationary=tile, moving=tile, accumulate=False)
    result = nl.ndarray((n, n), dtype=x.dtype, buffer=nl.sbuf)
    nisa.activation(dst=result, op=nl.exp, data=product)
    nisa.tensor_scalar(dst=result, data=result, op0=nl.add, operand0=1.0)
    nisa.dma_copy(dst=out, src=result)
    return out


def test_an_observer_sees_what_each_instruction_has_written():
    x = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    seen = []

    def observe(event, reads, writes):
        seen.append((event.op, [t.shape for t in reads], np.array(writes[0].array)))

    run = simulator.run(kernel, x, options=Options(observe=observe))
    product = (x.T.astype(np.float64) @ x).astype(np.float32)
    assert [op for op, _, _ in seen] == [e.op for e in run.trace.events]
    assert [len(reads) for _, reads, _ in seen] == [1, 2, 1, 1, 1]
    for (_, _, got), expected in zip(
        seen, (x, product, np.exp(product), np.exp(product) + 1, run.outputs), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_observing_changes_nothing():
    x = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    observed = simulator.run(kernel, x, options=Options(observe=lambda *_: None))
    plain = simulator.run(kernel, x)
    np.testing.assert_array_equal(observed.outputs, plain.outputs)
    assert [e.line for e in observed.trace.events] == [e.line for e in plain.trace.events]


def test_every_instruction_records_last():
    """What is recorded before the write would show an observer the old values."""
    for file in ENGINES.glob("*.py"):
        tree = ast.parse(file.read_text())
        last = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Return)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "record":
                assert id(node) in last or ast.unparse(node.args[3]) == "()", f"{file.name}:{node.lineno}"
