"""What `make bench-gpu` judges and computes, without the GPU: its tensors lie on the CPU here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from triptych.harness.backends.clocks import summary
from triptych.harness.collection import builtin
from triptych.harness.exit_codes import ExitCode
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.reports import tables
from triptych.harness.results.result import Result
from triptych.harness.results.status import Evidence, Status
from triptych.harness.upkeep.figures import bench_gpu

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'triptych[torch]'")

CASES = [
    Case("matmul", "m", {"M": 131, "K": 96, "N": 65}, "bfloat16"),
    Case("matmul", "m", {"M": 3, "K": 7, "N": 5}, "float32"),
    Case("attention", "a", {"B": 2, "H": 4, "Hkv": 2, "Sq": 150, "Sk": 150, "D": 32}, "float16", {"causal": True}),
    Case("attention", "a", {"B": 1, "H": 4, "Hkv": 2, "Sq": 40, "Sk": 150, "D": 32}, "bfloat16", {"causal": True}),
    Case("attention", "a", {"B": 1, "H": 2, "Hkv": 2, "Sq": 150, "Sk": 70, "D": 32}, "float32", {"causal": False}),
]


def sample(call: Callable[[], Any]) -> float:
    call()
    return 1e5


def panels(change: Callable[[Any], None]) -> Callable[..., dict[str, Callable[[], Any]]]:
    """PyTorch in both roles, with a change to what "triton" returns."""

    def made(op: Op, case: Case, inputs: dict[str, Any]) -> dict[str, Callable[[], Any]]:
        def changed() -> Any:
            out = op.torch(**inputs, **case.params).clone()  # type: ignore[misc]
            change(out)
            return out

        return {"triton": changed, "torch": lambda: op.torch(**inputs, **case.params)}  # type: ignore[misc]

    return made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "FEWEST", 3)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op}-{case.dtype}")
def test_right_results_pass_and_are_timed_in_turn(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "implementations", panels(lambda out: None))
    results = bench_gpu.measure(builtin()[case.op], case, sample, device="cpu")
    assert [(r.backend, r.status, r.reason) for r in results] == [
        ("triton", Status.PASSED, None),
        ("torch", Status.PASSED, None),
    ]
    assert all(len(r.timing.samples_us) >= 3 and r.timing.flops > 0 for r in results)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op}-{case.dtype}")
def test_a_wrong_last_row_fails_and_is_not_timed(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "implementations", panels(lambda out: out[..., -1, :].zero_()))
    wrong, right = bench_gpu.measure(builtin()[case.op], case, sample, device="cpu")
    assert wrong.status is Status.FAILED and wrong.timing is None
    assert right.status is Status.PASSED and right.timing


def test_a_kernel_that_raises_costs_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(out: Any) -> None:
        raise RuntimeError("out of resource\nmore")

    monkeypatch.setattr(bench_gpu, "implementations", panels(explode))
    wrong, right = bench_gpu.measure(builtin()["matmul"], CASES[0], sample, device="cpu")
    assert (wrong.status, wrong.reason) == (Status.ERROR, "RuntimeError: out of resource")
    assert right.status is Status.PASSED


def test_shares_are_of_the_largest_product_of_the_same_dtype() -> None:
    def timed(op: str, backend: str, us: float, dtype: str = "bfloat16") -> Result:
        timing = structs.replace(summary([us], 0, Evidence.DEVICE, timer="t", cache="c"), flops=1000, bytes=10)
        where = {"op": op, "case": "c", "dtype": dtype, "backend": backend, "target": None}
        return Result(**where, evidence=Evidence.DEVICE, status=Status.PASSED, timing=timing)

    results = [timed("matmul", "triton", 4), timed("matmul", "torch", 2), timed("attention", "triton", 8)]
    results.append(timed("attention", "torch", 8, "float16"))
    bench_gpu.add_shares(results)
    assert [r.timing.percent_of_peak for r in results] == pytest.approx([50.0, 100.0, 25.0, None])
    assert [r.timing.speed_over_torch for r in results] == [0.5, None, None, None]
    assert "0.50 times torch's speed" in bench_gpu.summarise(results)
    assert "% of peak" in tables.text(results)


def test_its_cases_fill_a_gpu() -> None:
    cases = bench_gpu.cases(builtin())
    assert {case.axes["M"] for case in cases if case.op == "matmul"} == {2048, 4096, 8192}
    assert {case.axes["Sq"] for case in cases if case.op == "attention"} == {2048, 4096, 8192, 16384}
    assert len({(case.op, case.name, case.dtype) for case in cases}) == len(cases)


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(type(bench_gpu.BACKENDS["triton"]), "missing", lambda self: "there is no GPU")
    assert bench_gpu.main([]) == ExitCode.REQUIRED_MISSING
    out, err = capsys.readouterr()
    assert out == "" and err == "bench-gpu needs a GPU with Triton and PyTorch: there is no GPU.\n"
