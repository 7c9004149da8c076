"""Arguments and outputs: arrays in and out, nested, and what happens to inputs."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from argument_parts import BF16, A, both, copied, fill, overwrite, overwritten, returns, same, scaled

import triptych
from triptych import simulator
from triptych.simulator import KernelError
from triptych.simulator.launch.arguments import _definition, leaves
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.lint.live import LintWarning

with simulated_nki():
    import nki
    import nki.language as nl
    import nki.typing as nt

Pair = namedtuple("Pair", "left right")


# Outputs


def test_outputs_are_nested_as_the_kernel_nests_them():
    def kernel(a, b):
        return Pair(scaled(a, 2.0), (scaled(b, 3.0), None)), {"sum": [copied(a)]}

    pair, rest = simulator.run(kernel, A, A + 1).outputs
    assert isinstance(pair, Pair) and pair.right[1] is None and list(rest) == ["sum"]
    same(pair.left, 2 * A)
    same(pair.right[0], 3 * (A + 1))
    same(rest["sum"][0], A)
    first, second = simulator.run(both, A, A + 1).outputs
    same(first, 3 * A)
    same(second, -(A + 1))


def test_outputs_are_apart_from_arguments_and_from_each_other():
    outputs = simulator.run(scaled, A, 1.0).outputs
    outputs[...] = -1
    assert A[0, 1] == 1

    def twice(a):
        out = scaled(a, 1.0)
        return out, out, a

    first, second, argument = simulator.run(twice, A).outputs
    kept = nki.simulate(lambda a, b: b)(A, B := A + 1)
    assert not np.shares_memory(kept, B)
    first[...] = -1
    second[0] = -2
    assert (first == -1).all() and (second[1] != -1).any() and (argument == A).all()
    assert not np.shares_memory(argument, A)


def test_a_kernel_that_writes_to_its_argument_may_return_nothing():
    a = A.copy()
    assert simulator.run(fill, a, 7.0).outputs is None
    same(a, overwritten(A))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda a: None, "kernel returns None and writes to none of its arguments"),
        (lambda a: A, "kernel must return HBM tensors, got ndarray"),
        (lambda a: (a, 3), "kernel must return HBM tensors, got int"),
        (lambda a: (a, {"x": "y"}), "kernel must return HBM tensors, got str"),
        (lambda a: nl.ndarray((2, 2), nl.float32, name="tile"), "kernel returns 'tile' in sbuf; an output is a tensor"),
        (lambda a: nl.ndarray((2, 2), nl.float32, nl.psum), "in psum; an output is a tensor in nl.shared_hbm"),
        (lambda a: nl.ndarray((2, 2), nl.float32, nl.shared_hbm), "4 of 4 elements never written"),
    ],
)
def test_wrong_returns_say_so(value, words):
    with pytest.raises(KernelError, match=words):
        simulator.run(returns(value), A)


# Inputs


def test_bools_stay_bools():
    a = A > 3
    out = simulator.run(scaled, a).outputs
    assert out.dtype == bool
    same(out, a)
    assert simulator.run(copied, a, nl.uint8).outputs.dtype == np.uint8
    simulator.run(fill, a, 2)
    assert a.view(np.uint8).max() == 1 and a[1:].all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: A.copy(),
        lambda: np.asfortranarray(A),
        lambda: np.zeros((3, 8), np.float32)[:, ::2],
        lambda: A.copy()[::-1],
        lambda: A.astype(BF16),
        lambda: A.astype(np.float16).T.copy().T,
        lambda: A.astype(np.int32),
        lambda: np.zeros((3, 4), ml_dtypes.float8_e5m2),
    ],
)
@pytest.mark.parametrize("rounding", [True, False])
def test_inputs_are_updated_in_place_whatever_their_layout(make, rounding):
    a = make()
    expected = overwritten(a, 7)
    run = simulator.run(overwrite, a, 7, options=simulator.Options(round_low_precision=rounding))
    same(a, expected)
    same(run.outputs, expected)
    assert run.outputs.dtype == a.dtype


def test_a_read_only_input_may_be_read_and_returned_but_not_written_in_vain():
    frozen = A.copy()
    frozen.flags.writeable = False
    same(simulator.run(scaled, frozen).outputs, 2 * A)
    with pytest.raises(KernelError, match="writes to its argument a, which is a read-only array; return the tensor"):
        simulator.run(overwrite, frozen)
    same(simulator.run(lambda a: (fill(a, 7.0), a)[1], frozen).outputs, overwritten(A))
    same(frozen, A)


def test_an_input_that_is_only_read_keeps_its_bits():
    """NaN payloads too, also where the input had to be copied."""
    bits = np.array([[0x7F800001, 0xFFC00123]], np.uint32).repeat(2, axis=1)
    a = bits.view(np.float32)[:, ::2]
    simulator.run(scaled, a)
    np.testing.assert_array_equal(np.ascontiguousarray(a).view(np.uint32), bits[:, ::2])


def test_an_input_can_be_returned():
    same(simulator.run(returns(lambda a: a), A).outputs, A)
    same(simulator.run(returns(lambda a: a[1:, ::2]), A).outputs, A[1:, ::2])


@dataclass
class Weights(nl.NKIObject):
    w: np.ndarray
    more: tuple | list = ()
    calls: int = 0


def test_arrays_inside_tuples_dicts_and_objects():
    def kernel(pair, config, table):
        config.calls += 1
        assert [t.name for t in (*pair, config.w, *config.more, table["x"])] == [
            "pair[0]",
            "pair[1]",
            "config.w",
            "config.more[0]",
            "table['x']",
        ]
        assert isinstance(pair, Pair) and config.calls == 1
        fill(config.w, 5.0)
        return tuple(copied(t) for t in (pair.left, config.w, config.more[0], table["x"]))

    config = Weights(A.copy(), more=[A + 2])
    outputs = simulator.run(nki.jit(kernel)[2], Pair(A, A + 1), config=config, table={"x": A + 3}).outputs
    for out, expected in zip(outputs, (A, overwritten(A, 5), A + 2, A + 3), strict=True):
        same(out, expected)
    same(config.w, overwritten(A, 5))
    assert config.calls == 0  # the compiler has a copy of the object


def test_a_list_is_taken_with_a_warning_and_a_tuple_without():
    def kernel(pair):
        return copied(pair[1])

    same(simulator.run(kernel, (A, A + 1)).outputs, A + 1)
    same(simulator.run(kernel, [A, A + 1], options=simulator.Options(lint=False)).outputs, A + 1)
    with pytest.warns(LintWarning, match="list-argument: argument pair is a list, and a kernel takes tuples") as seen:
        same(simulator.run(nki.jit(kernel)[2], [A, A + 1]).outputs, A + 1)
    assert {w.filename for w in seen} == {__file__}


def test_the_arguments_of_partials_are_arguments():
    kernel = nki.jit(both)
    bound = functools.partial(functools.partial(kernel[2], A), b=A + 1)
    run = simulator.run(bound)
    same(run.outputs[1], -(A + 1))
    assert {e.core for e in run.trace.events} == {0, 1}


def test_variable_arguments_have_names():
    def kernel(*tensors, **named):
        return tuple(copied(t) for t in (*tensors, *named.values()))

    outputs = simulator.run(kernel, A, A + 1, x=A + 2).outputs
    same(outputs[2], A + 2)
    with pytest.raises(KernelError, match=r"argument tensors\[1\] has dtype float64"):
        simulator.run(kernel, A, A.astype(np.float64))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (A[:0], r"argument a has shape \(0, 4\); every axis needs at least one element"),
        (np.array(1.0), r"argument a has shape \(\); every axis needs at least one element"),
        (A.astype(np.float64), "argument a has dtype float64, which is not a dtype of NKI; cast it to float32"),
        (A.astype(np.int64), "has dtype int64, which is not a dtype of NKI; cast it to int32"),
        (A.astype(np.uint64), "cast it to uint32"),
        (A.astype(np.complex64), r"has dtype complex64, which is not a dtype of NKI \["),
        (A.astype(">f4"), "has dtype >f4, which is not a dtype of NKI"),
        (np.array([["a"]]), "has dtype <U1, which is not a dtype of NKI"),
        ((A, A.astype(np.float64)), r"argument a\[1\] has dtype float64"),
    ],
)
def test_what_cannot_be_an_argument_says_so(value, words):
    with pytest.raises(KernelError, match=words):
        simulator.run(returns(lambda a: a), value)


def test_an_unsupported_dtype_is_a_type_error_too():
    with pytest.raises(TypeError, match="not a dtype of NKI"):
        simulator.run(returns(lambda a: a), A.astype(np.float64))


def test_a_tensor_of_another_kernel_is_no_argument():
    kept = []
    simulator.run(returns(lambda a: kept.append(a) or a), A)
    with pytest.raises(KernelError, match="argument a is NkiTensor.*, which lives inside another kernel"):
        simulator.run(scaled, kept[0])


def test_a_declared_shape_is_checked():
    def kernel(a: nt.tensor[3, 4], b: nt.tensor[2] = None, c: nt.tensor = None):
        return copied(a)

    kernel.__annotations__ = {"a": nt.tensor[3, 4], "b": nt.tensor[2], "c": nt.tensor}
    same(simulator.run(kernel, A, c=A).outputs, A)
    with pytest.raises(KernelError, match=r"argument a is declared nki.typing.tensor\[3, 4\], got shape \(4, 3\)"):
        simulator.run(kernel, np.ones((4, 3), np.float32))
    with pytest.raises(KernelError, match=r"argument b is declared nki.typing.tensor\[2\], got shape \(2, 1\)"):
        simulator.run(kernel, A, b=np.ones((2, 1), np.float32))


def test_neither_pytorch_nor_jax_is_imported():
    code = (
        "import sys, numpy as np, triptych\nfrom triptych import simulator\nimport nki\n"
        "nki.simulate(lambda a: a)(np.ones((2, 2), np.float32))\n"
        "print([m for m in ('torch', 'jax') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(triptych.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_output_keeps_no_more_than_itself():
    def kernel(a):
        out = nl.ndarray((4, *a.shape), a.dtype, nl.shared_hbm)
        for i in range(4):
            nl.store(out[i], nl.load(a))
        return out[1], out

    part, whole = nki.simulate(kernel)(A)
    part[...] = 7
    same(whole[1], A)
    assert part.base is None or part.base.nbytes == part.nbytes
    alone = nki.simulate(lambda a: kernel(a)[0])(A)
    assert alone.base is None or alone.base.nbytes == alone.nbytes
    own = nki.simulate(lambda a: kernel(a)[1])(A)
    assert own.flags.writeable and not own.flags.owndata, "the kernel's bytes themselves"


def test_where_a_kernel_is_defined_is_known_where_python_knows():
    class Called:
        def __call__(self, a):
            return a

    line = Called.__call__.__code__.co_firstlineno
    assert _definition(Called.__call__) == _definition(Called()) == (__file__, line)
    assert _definition(len) == ("?", 0)


def test_leaves_are_what_stands_in_containers_in_order():
    config = nl.NKIObject(scale=5, more=[Pair(6, 7)])
    assert list(leaves(((1, [2, {"a": 3}]), {"b": (4,)}, config, None))) == [1, 2, 3, 4, 5, 6, 7, None]
