"""`make bench-gpu`: Triton's kernels against PyTorch's on this machine's GPU, at sizes that fill it.

Both compute on the same tensors. Each output is judged first, by the judge of `triptych check`, on blocks of its rows:
the float64 reference of a whole 8192 x 8192 product would take longer than everything else here. Then the two are timed
in turn, sample by sample, so that a clock that drifts or throttles meets both alike; the L2 cache is overwritten before
each sample. Rates are also given as a share of the largest matrix product rate measured in the same run and dtype, by
whichever of the two.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from msgspec import structs

from triptych.harness import files
from triptych.harness.arrays import from_torch
from triptych.harness.backends import BACKENDS
from triptych.harness.backends.base import kernel_of
from triptych.harness.backends.clocks import event_timer, summary
from triptych.harness.collection import builtin
from triptych.harness.dtypes import dtype_of
from triptych.harness.exit_codes import ExitCode
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import expect
from triptych.harness.judge.verdict import judge
from triptych.harness.ops import loading
from triptych.harness.ops.case import Case
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import pick
from triptych.harness.reports import figures, problems, tables
from triptych.harness.results import environment
from triptych.harness.results.document import dumps
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD, Cause, Evidence, Status

SECONDS = 1.0  # of samples for each implementation of a case
FEWEST, MOST = 20, 500
ROWS = 64  # of a block that is judged
Call = Callable[[], Any]


def cases(ops: dict[str, Op]) -> list[Case]:
    """Square products, Llama's projections at 2048 tokens, attention at 4K to 16K tokens and Llama's prefill."""
    square = [
        Case("matmul", f"{n}x{n}x{n}", {"M": n, "K": n, "N": n}, dtype)
        for n in (4096, 8192)
        for dtype in ("bfloat16", "float16", "float32")
    ]
    attention = [
        Case(
            "attention",
            f"b{16384 // s}-h16-s{s}-d128" + "-causal" * causal,
            {"B": 16384 // s, "H": 16, "Hkv": 16, "Sq": s, "Sk": s, "D": 128},
            dtype,
            {"causal": causal},
        )
        for s in (4096, 8192, 16384)
        for causal in (False, True)
        for dtype in ("bfloat16", "float16")
    ]
    llama = [case for name in ("matmul", "attention") for case in cases_of(ops[name], ["model-long"], None, {}, 0)]
    return [*square, *attention, *(case for case in llama if case.axes.get("Sq") != 1)]


def blocks(case: Case, inputs: dict[str, Any], out: Any) -> Iterator[tuple[Case, dict[str, Any], Any]]:
    """Some rows of the output, each as a smaller case of its own: at the start, inside and at the end.

    For causal attention rows [a, b) see keys [0, b + Sk - Sq), which is the same op aligned at the same corner.
    """
    rows = case.axes["M" if case.op == "matmul" else "Sq"]
    starts = sorted({0, (rows // 2) // ROWS * ROWS + 1 if rows > 2 * ROWS else 0, max(rows - ROWS, 0)})
    for i, start in enumerate(starts):
        end = min(start + ROWS, rows)
        if case.op == "matmul":
            axes = {**case.axes, "M": end - start}
            part = {"lhsT": inputs["lhsT"][:, start:end], "rhs": inputs["rhs"]}
            yield replace(case, axes=axes), part, out[start:end]
            continue
        head = i * (case.axes["H"] - 1) // max(len(starts) - 1, 1)
        shared = head // (case.axes["H"] // case.axes["Hkv"])
        keys = end + case.axes["Sk"] - rows if case.params.get("causal") else case.axes["Sk"]
        axes = {"B": 1, "H": 1, "Hkv": 1, "Sq": end - start, "Sk": keys, "D": case.axes["D"]}
        part = {"q": inputs["q"][-1:, head : head + 1, start:end]}
        part.update({name: inputs[name][-1:, shared : shared + 1, :keys] for name in ("k", "v")})
        yield replace(case, axes=axes), part, out[-1:, head : head + 1, start:end]


def check(op: Op, case: Case, inputs: dict[str, Any], out: Any, result: Result) -> None:
    """Judge blocks of rows; the result keeps the worst block's metrics."""
    for smaller, part, rows in blocks(case, inputs, out):
        problem = Problem(op, smaller, {name: from_torch(tensor.contiguous()) for name, tensor in part.items()})
        verdict = judge(problem, from_torch(rows.contiguous()), expect(problem))
        before = figures.share_of_bound(result) or 0.0
        candidate = structs.replace(result, metrics=verdict.metrics, tolerance=verdict.tolerance)
        if verdict.status is not Status.PASSED or (figures.share_of_bound(candidate) or 0.0) >= before:
            result.status, result.reason, result.cause = verdict.status, verdict.reason, verdict.cause
            result.metrics, result.tolerance = verdict.metrics, verdict.tolerance
        if verdict.status is not Status.PASSED:
            return


def draw(op: Op, case: Case, device: str) -> dict[str, Any]:
    """Standard normal inputs, drawn on the device: at these sizes the host would take minutes."""
    import torch

    generator = torch.Generator(device).manual_seed(case.seed)
    a = case.axes
    shapes: dict[str, tuple[int, ...]]
    if case.op == "matmul":
        shapes = {"lhsT": (a["K"], a["M"]), "rhs": (a["K"], a["N"])}
    else:
        keys = (a["B"], a["Hkv"], a["Sk"], a["D"])
        shapes = {"q": (a["B"], a["H"], a["Sq"], a["D"]), "k": keys, "v": keys}
    dtype = getattr(torch, case.dtype)
    return {name: torch.randn(shape, generator=generator, device=device).to(dtype) for name, shape in shapes.items()}


def implementations(op: Op, case: Case, inputs: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Each backend as a call that returns its output tensor."""
    import torch

    launcher, _ = kernel_of(op.triton, loading.load)
    first = next(iter(inputs.values()))
    a = case.axes
    shape = (a["M"], a["N"]) if case.op == "matmul" else (a["B"], a["H"], a["Sq"], a["D"])
    out = torch.full(shape, float("nan"), dtype=first.dtype, device=first.device)

    def triton() -> Any:
        launcher(**inputs, out=out, **case.params)
        return out

    def pytorch() -> Any:
        assert op.torch is not None
        return op.torch(**inputs, **case.params)

    return {"triton": triton, "torch": pytorch}


def interleaved(calls: dict[str, Call], sample: Callable[[Call], float]) -> dict[str, list[float]]:
    """Samples in microseconds, one of each in turn; who goes first alternates."""
    for call in calls.values():
        for _ in range(3):
            sample(call)
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    while len(samples[order[0]]) < FEWEST or (
        len(samples[order[0]]) < MOST and sum(map(sum, samples.values())) < SECONDS * 1e6 * len(calls)
    ):
        for name in order:
            samples[name].append(sample(calls[name]))
        order.reverse()
    return samples


def measure(op: Op, case: Case, sample: Callable[[Call], float], device: str = "cuda") -> list[Result]:
    """One case on both backends: judged, then timed in turn; what fails is not timed."""
    results = {
        name: Result(
            op=case.op,
            case=case.name,
            dtype=case.dtype,
            backend=name,
            target=None,
            evidence=Evidence.DEVICE,
            status=Status.PASSED,
        )
        for name in ("triton", "torch")
    }
    try:
        inputs = draw(op, case, device)
        calls = implementations(op, case, inputs)
    except Exception as error:
        for result in results.values():
            result.status, result.reason, result.cause = Status.ERROR, sentence(error), Cause.KERNEL_ERROR
        return list(results.values())
    for name, result in results.items():
        try:
            check(op, case, inputs, calls[name](), result)
        except Exception as error:
            result.status, result.reason, result.cause = Status.ERROR, sentence(error), Cause.KERNEL_ERROR
    sound = {name: calls[name] for name, result in results.items() if result.status is Status.PASSED}
    if sound:
        work = {"flops": 0, "bytes": 0}
        if op.flops and op.bytes:
            itemsize = dtype_of(case.dtype).itemsize
            work = {"flops": op.flops(case.axes, case.params), "bytes": op.bytes(case.axes, case.params, itemsize)}
        for name, samples in interleaved(sound, sample).items():
            timing = summary(samples, 3, Evidence.DEVICE, timer="device events, interleaved", cache="L2 flushed")
            results[name].timing = structs.replace(timing, **work)
    return list(results.values())


def sentence(error: Exception) -> str:
    """The first line of an exception."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def add_shares(results: Sequence[Result]) -> None:
    """Put each rate beside the peak of its dtype, and Triton's time beside PyTorch's."""
    peaks: dict[str, float] = {}
    for result in results:
        if result.op == "matmul":
            peaks[result.dtype] = max(peaks.get(result.dtype, 0.0), figures.tflops(result) or 0.0)
    times = {(r.op, r.case, r.dtype): figures.time_us(r) for r in results if r.backend == "torch"}
    for result in results:
        rate, peak = figures.tflops(result), peaks.get(result.dtype)
        if result.timing and rate and peak:
            shares = {"percent_of_peak": 100 * rate / peak, "peak_tflop_per_s": peak}
            result.timing = structs.replace(result.timing, **shares)
        other, own = times.get((result.op, result.case, result.dtype)), figures.time_us(result)
        if result.timing and result.backend == "triton" and other and own:
            result.timing = structs.replace(result.timing, speed_over_torch=other / own)


def summarise(results: Sequence[Result]) -> str:
    """The geometric mean of Triton's speed over PyTorch's, for each op."""
    lines = []
    for name in dict.fromkeys(result.op for result in results):
        timings = [result.timing for result in results if result.op == name and result.timing]
        ratios = [timing.speed_over_torch for timing in timings if timing.speed_over_torch is not None]
        if ratios:
            mean = statistics.geometric_mean(ratios)
            lines.append(f"{name}: triton runs at {mean:.2f} times torch's speed (geometric mean of {len(ratios)})")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench_gpu", description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("ops", nargs="*", metavar="OP", help="matmul, attention (default: both)")
    parser.add_argument("--json", default="report.json", metavar="PATH", help="(default: report.json)")
    arguments = parser.parse_args(argv)
    ops = builtin()
    for name in ("triton", "torch"):
        reason = BACKENDS[name].missing()
        if reason:
            print(f"bench-gpu needs a GPU with Triton and PyTorch: {reason}.", file=sys.stderr)
            return ExitCode.REQUIRED_MISSING
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32, on both sides
    sample = event_timer()
    wanted = pick("op", arguments.ops, ("matmul", "attention")) if arguments.ops else ["matmul", "attention"]
    work = [case for case in cases(ops) if case.op in wanted]
    results: list[Result] = []
    for i, case in enumerate(work):
        print(f"[{i}/{len(work)}] {case.op} {case.name} {case.dtype}", file=sys.stderr)
        results += measure(ops[case.op], case, sample)
        torch.cuda.empty_cache()
    add_shares(results)
    env = {**environment.record(), "seed": 0, "command": "make bench-gpu", "conformance": {}}  # no emulator
    files.write(arguments.json, dumps(env, results))
    print(tables.text(results))
    print(problems.problems(results), end="")
    print(summarise(results))
    print(f"results: {arguments.json} (`triptych report --from {arguments.json}` draws them)")
    print(problems.summary(results, 0))
    return ExitCode.MISMATCH if any(result.status in BAD for result in results) else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
