"""The parts of PyTorch's device and operators, one by one and in this process, which none of them changes."""

from __future__ import annotations

import types
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from kernel_parts import in_hbm, in_sbuf

from triptych import simulator
from triptych.simulator import KernelError, NeedsData, SimulatorWarning
from triptych.simulator.dtypes import dtype_of
from triptych.simulator.launch import import_hook, torch_tensors
from triptych.simulator.launch.frameworks import Torch
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.memory.shapes import ShapeDtype

torch = pytest.importorskip("torch")
from triptych.simulator.launch import graph_calls, neuron_device, nki_ops  # noqa: E402
from triptych.simulator.launch.host import launched_on_shapes, launching, run_host  # noqa: E402

with simulated_nki():
    import nki
    import nki.isa as nisa
    import nki.language as nl


@nki.jit
def doubled(x):
    tile = in_sbuf(x)
    nisa.tensor_scalar(tile, tile, nl.multiply, 2.0)
    return in_hbm(tile)


X = torch.arange(12.0).reshape(3, 4)


def lambda_of(kernel):
    """A function of tensors that calls a kernel."""

    def called(x: torch.Tensor) -> torch.Tensor:
        return kernel(x)

    return called


# Operators


def test_a_wrapped_kernel_is_called_on_its_cores():
    wrapped = nki_ops.wrap_nki(doubled)
    for launch in (wrapped, wrapped[1], wrapped[[2]], wrapped[(2,)]):
        with launching(nki_ops.simulated):
            assert torch.equal(launch(X), 2 * X)
    assert [wrapped[grid].kernel.cores for grid in (1, [2], (2,))] == [1, 2, 2]
    with pytest.raises(KernelError, match="wrap_nki takes what nki.jit gives, got function"):
        nki_ops.wrap_nki(lambda x: x)


@pytest.mark.parametrize("name", ["add", "a::b::c", 3, None, ""])
def test_an_operator_has_a_namespace_and_a_name(name):
    with pytest.raises(KernelError, match=r'nki_op takes a name as "namespace::operator", got '):
        nki_ops.nki_op(name, lambda x: x)


def test_an_operator_is_of_a_function():
    with pytest.raises(KernelError, match="nki_op wraps a function of tensors .* and doubled is the kernel itself"):
        nki_ops.nki_op("parts::kernel", doubled)


class Made:
    """What PyTorch makes an operator of; making one takes it seconds."""

    def __init__(self, name, outputs, mutates_args, schema):
        self.name, self.outputs, self.mutated, self.schema = name, outputs, mutates_args, schema

    def register_fake(self, shapes):
        self.shapes = shapes


def test_an_operators_kernels_are_run_by_whoever_asked_to(monkeypatch):
    monkeypatch.setattr(torch.library, "custom_op", Made)
    monkeypatch.setattr(torch.library, "infer_schema", lambda function, mutates_args: (function, mutates_args))
    called = lambda_of(doubled)
    made = nki_ops.nki_op("parts::twice", mutates_args=iter(("x",)))(called)
    assert (made.name, made.mutated, made.schema) == ("parts::twice", ("x",), (called, ("x",)))
    assert nki_ops.nki_op("parts::more", called, "unknown").mutated == "unknown" and made.__nki_host__ is called
    assert torch.equal(made.outputs(X), 2 * X)
    with launching(lambda kernel, args, kwargs: args[0] + 1):
        assert torch.equal(made.outputs(X), X + 1)
    shapes = made.shapes(torch.empty((3, 4), device="meta"))
    assert shapes.is_meta and shapes.shape == (3, 4)


def test_what_is_returned_is_ones_own():
    other = X + 1
    a, (b, c), d = nki_ops.own((X, [X[1:], other], 3), [X, X + 2])
    assert torch.equal(a, X) and a.data_ptr() != X.data_ptr() and torch.equal(b, X[1:])
    assert b.untyped_storage().data_ptr() != X.untyped_storage().data_ptr() and c is other and d == 3


# The device


def test_what_names_the_device(monkeypatch):
    names = ["neuron", "neuron:1", "neurons", "cpu", 3, None, torch.device("cpu")]
    assert [neuron_device.is_device(x) for x in names] == [True, True, False, False, False, False, False]
    monkeypatch.setattr(neuron_device, "NAME", "cpu")
    assert [neuron_device.is_device(x) for x in (torch.device("cpu"), torch.device("meta"))] == [True, False]


def test_a_copy_to_the_device_is_one_on_the_cpu():
    given = []
    to = neuron_device.moved(lambda self, *args, **kwargs: given.append((args, kwargs)))
    calls = [
        (("neuron",), {}), (("neuron:0", torch.float32), {}), ((), {"device": "neuron"}), ((torch.float32,), {}),
        (("cpu", "neuron"), {}),
        (("neuron", torch.float32, False, False), {}), ((torch.float32,), {"device": "neuron"}),
    ]  # fmt: skip
    for args, kwargs in calls:
        to(X, *args, **kwargs)
    copy = {"copy": True}
    assert given == [
        (("cpu",), copy), (("cpu", torch.float32), copy), ((), {"device": "cpu"} | copy), ((torch.float32,), {}),
        (("cpu", "neuron"), {}),
        (("cpu", torch.float32, False), copy), ((torch.float32,), {"device": "cpu"} | copy),
    ]  # fmt: skip


def test_tensors_are_made_on_the_cpu():
    made = neuron_device.empty_tensor((2, 3), dtype=torch.int8, layout=None, memory_format=None, device="neuron")
    strided = neuron_device.empty_strided_tensor((2, 3), (1, 2), dtype=torch.int8, device="neuron")
    turned = neuron_device.empty_tensor((1, 2, 3, 4), memory_format=torch.channels_last)
    assert (made.shape, made.dtype, made.device.type) == ((2, 3), torch.int8, "cpu")
    assert (strided.stride(), strided.dtype, strided.device.type) == ((1, 2), torch.int8, "cpu")
    assert turned.is_contiguous(memory_format=torch.channels_last)


def test_the_device_has_nothing():
    module = neuron_device.device_module()
    assert not module.is_available() and module.device_count() == module.current_device() == 0
    assert module.synchronize() is module.manual_seed_all(3) is None and not module._is_in_bad_fork()


def test_the_device_is_taken_and_its_module_made_where_there_is_none(monkeypatch):
    done = []
    monkeypatch.setattr(torch.utils, "rename_privateuse1_backend", lambda name: done.append(("taken", name)))
    monkeypatch.setattr(torch, "_register_device_module", lambda name, module: done.append(("module", name)))
    monkeypatch.setattr(neuron_device, "LIBRARY", SimpleNamespace(impl=lambda name, f, key: done.append((name, key))))
    monkeypatch.setattr(torch.Tensor, "to", torch.Tensor.to)
    monkeypatch.setattr(torch, "compile", torch.compile)
    neuron_device.map_to_cpu.__wrapped__()
    empty = [("empty.memory_format", "PrivateUse1"), ("empty_strided", "PrivateUse1")]
    assert done == [("taken", "neuron"), ("module", "neuron"), *empty]
    there = X.to("neuron")
    assert torch.equal(there, X) and there.device.type == "cpu" and there.data_ptr() != X.data_ptr()
    monkeypatch.setattr(torch, "neuron", object(), raising=False)
    done.clear()
    neuron_device.map_to_cpu.__wrapped__()
    assert done == [("taken", "neuron"), *empty]


def test_its_own_backend_compiles_nothing(monkeypatch):
    done, given = [], []
    monkeypatch.setattr(neuron_device, "calls_in_graphs", lambda: done.append(True))
    neuron_device.compiling_nothing(lambda *args, **kwargs: given.append((args, kwargs)))(abs, backend="neuron")
    assert given == [((abs,), {"backend": neuron_device.as_it_is})] and done == [True]


def test_another_backend_compiles_as_it_does():
    given = []
    compile = neuron_device.compiling_nothing(lambda *args, **kwargs: given.append((args, kwargs)))
    compile(abs, backend="inductor")
    compile(abs)
    assert given == [((abs,), {"backend": "inductor"}), ((abs,), {})]
    graph = SimpleNamespace(forward=abs)
    assert neuron_device.as_it_is(graph, None) is abs


@pytest.mark.parametrize(
    ("target", "setting", "cores", "told"),
    [("trn2", None, 1, True), ("trn2", None, 2, False), ("trn2", "1", 1, False), ("trn1", None, 1, False)],
)
def test_a_kernel_in_a_graph_has_the_graphs_degree(monkeypatch, target, setting, cores, told):
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", target)
    monkeypatch.delenv("NEURON_LOGICAL_NC_CONFIG", raising=False)
    if setting:
        monkeypatch.setenv("NEURON_LOGICAL_NC_CONFIG", setting)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        neuron_device.warn_of_degree(doubled.on_cores(cores))
    assert bool(found) is told
    assert not told or (found[0].category is SimulatorWarning and "doubled runs on one core" in str(found[0].message))


def test_the_warning_is_of_the_line_that_calls_the_graph(monkeypatch):
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")
    monkeypatch.delenv("NEURON_LOGICAL_NC_CONFIG", raising=False)
    with launching(nki_ops.simulated), pytest.warns(SimulatorWarning, match="doubled runs on one core") as found:
        neuron_device.call(graph_calls.numbered(doubled), None, (X,), {})
    assert found[0].filename == __file__


@pytest.mark.filterwarnings("ignore:outer-state")
def test_a_graph_calls_a_kernel_on_as_many_cores_as_it_was_launched_on(monkeypatch):
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")
    seen = []

    @nki.jit
    def counted(x):
        seen.append(nl.num_programs())
        return doubled(x)

    with launching(nki_ops.simulated):
        assert torch.equal(neuron_device.call(graph_calls.numbered(counted), 2, (X,), {}), 2 * X)
    assert seen == [2, 2]


def test_a_graph_calls_a_kernel_by_its_number(monkeypatch):
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn1")
    first, second = graph_calls.numbered(doubled), graph_calls.numbered(doubled)
    assert first != second and graph_calls.KERNELS[first] is graph_calls.KERNELS[second] is doubled
    with launching(nki_ops.simulated):
        for cores in (None, 1):
            assert torch.equal(neuron_device.call(first, cores, (X,), {}), 2 * X)
            assert np.array_equal(neuron_device.call(first, cores, (), {"x": X}), 2 * X)
    called = []
    compiler = graph_calls.Compiler(lambda: False, None)
    monkeypatch.setattr(graph_calls, "compiler", compiler)
    assert doubled[2].cores == 2
    compiler = graph_calls.Compiler(lambda: True, lambda *given: called.append(given))
    monkeypatch.setattr(graph_calls, "compiler", compiler)
    doubled[2](1, a=2)
    assert called == [(doubled.number, 2, (1,), {"a": 2})]
    doubled[1](3)
    doubled(4)
    assert called[1:] == [(doubled.number, 1, (3,), {}), (doubled.number, None, (4,), {})]


# Tensors and arrays


def test_arrays_become_tensors_on_their_bytes_and_shapes_tensors_without_numbers():
    array, shape = X.numpy(), ShapeDtype((2, 3), "bfloat16")
    given = [array, shape, X, 3, "x", {"a": (array,)}]
    on_bytes, without, *rest = torch_tensors.mapped(torch_tensors.tensor_of, given)
    assert torch.equal(on_bytes, X) and on_bytes.data_ptr() == array.__array_interface__["data"][0]
    assert (without.shape, without.dtype, without.device.type) == ((2, 3), torch.bfloat16, "meta")
    assert rest[0] is X and rest[1:3] == [3, "x"] and torch.equal(rest[3]["a"][0], X)


def test_tensors_become_arrays_and_those_without_numbers_shapes():
    without = torch.empty((2, 3), dtype=torch.int8, device="meta")
    assert np.array_equal(torch_tensors.array_of(X), X.numpy()) and torch_tensors.array_of(3) == 3
    assert torch_tensors.array_of(without) == torch_tensors.shape_of(without) == ShapeDtype((2, 3), "int8")
    assert torch_tensors.shape_of(X) == ShapeDtype((3, 4), "float32") and torch_tensors.shape_of("x") == "x"
    made = torch_tensors.like(without)
    assert made(X) is X and made(ShapeDtype((4, 5), "bool_")).shape == (4, 5)
    assert made(ShapeDtype((4, 5), "bool_")).dtype == torch.bool and made(ShapeDtype((1, 1), "int8")).is_meta


def test_an_output_of_integers_has_no_derivative_to_be_asked_for():
    weight = torch.nn.Parameter(X)
    given = Torch.give(np.ones((2, 2), np.int32), dtype_of("int32"), [weight], "kernel")
    assert given.dtype == torch.int32 and not given.requires_grad


def test_awss_package_has_operators_and_lends_its_device(monkeypatch):
    lent = []
    monkeypatch.setattr(neuron_device, "map_to_cpu", lambda: lent.append(True))
    module = types.ModuleType("torch_neuronx")
    import_hook._Loader().exec_module(module)
    assert (module.nki_op, module.wrap_nki, lent) == (nki_ops.nki_op, nki_ops.wrap_nki, [True])
    with pytest.raises(AttributeError, match="torch_neuronx is lent by triptych and has nki_op and wrap_nki alone, no"):
        _ = module.xla_trace


# Host code


class operator:
    """A stand-in for an operator that `nki_op` made of a function, which it is on tensors with numbers."""

    def __init__(self, function):
        self.__nki_host__, self._qualname = function, "mine::one"
        self.calls = 0

    def __call__(self, x):
        assert not x.is_meta
        self.calls += 1
        return self.__nki_host__(x)


def test_host_code_gives_back_what_it_was_given():
    run, twice = simulator.on("trn2").run, operator(lambda x: {"y": doubled(x)})
    of_tensors, of_arrays = run_host(run, twice, (X,), {}), run_host(run, twice, (), {"x": X.numpy()})
    assert torch.equal(of_tensors.outputs["y"], 2 * X)
    assert isinstance(of_arrays.outputs["y"], np.ndarray) and np.array_equal(of_arrays.outputs["y"], 2 * X.numpy())
    assert run_host(run, twice, (ShapeDtype((5, 6), "int8"),), {}).outputs == {"y": ShapeDtype((5, 6), "int8")}
    assert of_tensors.trace.count()["tensor_scalar"] == 1
    assert torch.equal(simulator.on("trn2").run(twice, X).outputs["y"], 2 * X)
    assert twice.calls == 3, "on shapes its function is called"


def test_host_code_of_several_kernels_has_no_trace():
    done = run_host(simulator.on("trn2").run, operator(lambda x: doubled(doubled(x))), (X,), {})
    assert torch.equal(done.outputs, 4 * X)
    with pytest.raises(KernelError, match="launches 2 kernels, and a trace is of one: predict the kernels one by one"):
        _ = done.trace.events
    with pytest.raises(AttributeError):
        _ = done.trace.__array__
    none = run_host(simulator.on("trn2").run, operator(lambda x: x), (X,), {})
    with pytest.raises(KernelError, match="launches 0 kernels"):
        _ = none.trace.events


def test_a_kernel_on_shapes_that_needs_data_leaves_the_shapes_to_its_operator():
    @nki.jit
    def counted(x):
        register = nisa.register_alloc()
        nisa.register_load(register, in_sbuf(x))
        nl.fori_loop(0, register, lambda i: None)
        return in_hbm(in_sbuf(x))

    numbers = torch.ones((1, 1), dtype=torch.int32)
    assert nki_ops.on_shapes(doubled, (X,), {}).shape == X.shape
    with pytest.raises(NeedsData, match=r"are then the operator's to tell: register_fake\(function\)"):
        nki_ops.on_shapes(counted, (numbers,), {})


def test_a_kernel_on_shapes_takes_tensors():
    with pytest.raises(KernelError, match="a kernel that an operator of PyTorch calls takes tensors, got none"):
        launched_on_shapes(simulator.on("trn2").run, doubled, (3,), {})
