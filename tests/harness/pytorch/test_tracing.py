"""What a compiler sees of operators on a GPU, traced without one: tensors have shapes and a device, and no numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

import triptych.torch as tt  # noqa: E402
from triptych.harness.emulators import devices  # noqa: E402

LAUNCH = "triton_kernel_wrapper_functional"


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Triton's driver tells of a Hopper GPU, and tensors are fake."""
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # or Triton 3.9 warns of what 3.10 will do
    with devices.pretend(devices.DEVICES["sm_90"]), torch._subclasses.fake_tensor.FakeTensorMode():
        yield


def traced(function: Callable[..., Any], *shapes: tuple[int, ...], device: str = "cuda") -> list[Any]:
    """The nodes of the graph that a compiler gets, by what they call."""
    from torch._functorch.aot_autograd import aot_function

    seen: list[Any] = []

    def compiler(graph: Any, inputs: Any) -> Any:
        seen.extend(node for node in graph.graph.nodes if node.op == "call_function")
        return graph

    aot_function(function, fw_compiler=compiler)(*(torch.empty(s, dtype=torch.bfloat16, device=device) for s in shapes))
    return seen


def test_a_launch_stands_in_the_graph_with_its_arguments() -> None:
    nodes = traced(lambda q, k: tt.attention(q, k, k, causal=True) + 1, (1, 4, 64, 32), (1, 2, 64, 32))
    (launch,) = [node for node in nodes if str(node.target) == LAUNCH]
    arguments = launch.kwargs["kwargs"]
    assert arguments["D"] == 32 and arguments["CAUSAL"] is True and arguments["GROUP"] == 2
    assert launch.kwargs["tensors_to_clone"] == ["out"] and "enable_fp_fusion" not in arguments
    assert not [node for node in nodes if "triptych" in str(node.target)]


def test_a_product_for_which_a_launcher_makes_descriptors_of_addresses_is_traced_without() -> None:
    nodes = traced(tt.matmul, (8192, 4096), (4096, 4096))
    (launch,) = [node for node in nodes if str(node.target) == LAUNCH]
    assert {"a", "b", "out"} <= set(launch.kwargs["kwargs"])


def test_on_the_cpu_an_operator_is_one_node() -> None:
    nodes = traced(lambda q: tt.attention(q, q, q, causal=True), (1, 4, 64, 32), device="cpu")
    assert [str(node.target) for node in nodes] == ["triptych.attention.default"]


def test_the_launcher_itself_is_as_it_was() -> None:
    from triton.runtime.jit import JITFunction

    from triptych.harness.backends.base import kernel_of
    from triptych.harness.functions.rows import rows
    from triptych.harness.ops import loading

    traced(lambda q: tt.attention(q, q, q), (1, 4, 64, 32))
    launcher, _ = kernel_of(rows()["attention"].triton, loading.load)
    kernels = [x for x in launcher.__globals__.values() if type(x).__name__ in ("Wrapped", "JITFunction")]
    assert kernels and all(isinstance(x, JITFunction) for x in kernels)
