"""How a kernel is launched in NKI 0.7: configurations of nki.jit, and the cores of the environment."""

from __future__ import annotations

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import KernelError
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki
    import nki.isa as nisa
    import nki.language as nl
    from nki.compiler import AddressRotation, CompileConfig, SpecializationConfig

X = np.arange(8, dtype=np.float32).reshape(2, 4)


def cores(x):
    out = nl.ndarray((1, 1), nl.int32, buffer=nl.shared_hbm)
    count = nl.ndarray((1, 1), nl.int32)
    nisa.memset(count, nl.num_programs())
    nisa.dma_copy(dst=out, src=count)
    return out


@pytest.mark.parametrize(("value", "expected"), [(None, 1), ("", 1), ("1", 1), ("2", 2)])
def test_the_environment_says_how_many_cores(value, expected, monkeypatch):
    monkeypatch.delenv("NEURON_LOGICAL_NC_CONFIG", raising=False)
    if value is not None:
        monkeypatch.setenv("NEURON_LOGICAL_NC_CONFIG", value)
    assert simulator.run(nki.jit(cores), X, target="trn2").outputs.item() == expected
    assert simulator.run(nki.jit(cores)[expected], X, target="trn2").outputs.item() == expected


def test_a_grid_that_differs_from_the_environment_is_an_error(monkeypatch):
    monkeypatch.setenv("NEURON_LOGICAL_NC_CONFIG", "1")
    with pytest.raises(KernelError, match=r"launched on 2 and NEURON_LOGICAL_NC_CONFIG asks for 1: .*NCC_EVRF066"):
        simulator.run(nki.jit(cores)[2], X)
    monkeypatch.setenv("NEURON_LOGICAL_NC_CONFIG", "4")
    with pytest.raises(KernelError, match="NEURON_LOGICAL_NC_CONFIG is '4'; expected 1 or 2"):
        simulator.run(nki.jit(cores), X)


def nested(inner, **options):
    part = nki.jit(lambda x: x, compile_config=inner)

    @nki.jit(**options)
    def kernel(x):
        return part(x)

    return kernel


def test_a_nested_kernel_is_inlined_under_the_outer_ones_configuration():
    off, on = CompileConfig(dead_code_elim=False), CompileConfig(dead_code_elim=True)
    lenient = SpecializationConfig(allow_nested_config_override=True)
    for inner, options in ((None, {}), (on, {"compile_config": on}), (None, {"compile_config": on})):
        np.testing.assert_array_equal(simulator.run(nested(inner, **options), X).outputs, X)
    with pytest.raises(KernelError, match="called inside another kernel, whose compile_config differs"):
        simulator.run(nested(off, compile_config=on), X)
    with pytest.warns(simulator.SimulatorWarning, match="whose compile_config differs.*which stands"):
        simulator.run(nested(off, compile_config=on, specialization_config=lenient), X)


def test_a_configuration_is_of_its_kind():
    assert CompileConfig().nki_alloc_fallback is True and CompileConfig().dead_code_elim is None
    assert CompileConfig().address_rotation is AddressRotation.AUTO and CompileConfig().prefetch_auto is False
    assert [member.name for member in AddressRotation] == ["AUTO", "ENABLE", "DISABLE"]
    with pytest.raises(KernelError, match="address_rotation=nki.compiler.AddressRotation.AUTO.*got 'auto'"):
        CompileConfig(address_rotation="auto")
    with pytest.raises(KernelError, match="takes barrier_check=True or False, got 1"):
        CompileConfig(barrier_check=1)
    with pytest.raises(KernelError, match="takes allow_nested_config_override=True or False, got 'yes'"):
        SpecializationConfig(allow_nested_config_override="yes")


def test_defaults_are_as_documented():
    """nki.compiler.CompileConfig.html and SpecializationConfig.html of SDK 2.33."""
    assert not SpecializationConfig().allow_nested_config_override
    made = CompileConfig()
    assert (made.nki_alloc_fallback, made.prefetch_auto, made.barrier_check) == (True, False, None)
    with pytest.raises(KernelError, match=r"nki.jit takes compile_config=nki.compiler.CompileConfig\(..\), got 'fast'"):
        nki.jit(cores, compile_config="fast")
    with pytest.raises(TypeError):
        CompileConfig(nonsense=1)
