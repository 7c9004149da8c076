"""`triptych.check` and `triptych.bench`: what the commands of these names do, from Python.

results = triptych.check("rowscale.py", backends="nki-sim", cases=["smoke", "edge"])
print(results)
results.raise_for_failures()
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from triptych.harness.comma_lists import comma_list
from triptych.harness.errors import UsageError
from triptych.harness.ops import loading
from triptych.harness.ops.op import SHORT_SET, Op
from triptych.harness.reports.progress import Progress
from triptych.harness.running import runner
from triptych.harness.running.request import Request, bounds
from triptych.harness.running.session import Session
from triptych.harness.running.tasks import TIMEOUT_S
from triptych.harness.testing.chosen_ops import Chosen, choices
from triptych.harness.testing.results import Results

Names = str | Iterable[str]
Sizes = int | Iterable[int]


def check(
    ops: Chosen,
    *,
    backends: Names = (),
    targets: Names = (),
    dtypes: Names = (),
    cases: Names = (),
    names: str | None = None,
    axes: Mapping[str, Sizes] | None = None,
    seed: int = 0,
    rtol: float | None = None,
    atol: float | None = None,
    budget: float | None = None,
    timeout: float = TIMEOUT_S,
    memory: int | None = None,
    paranoid: bool = False,
    isolated: bool = True,
) -> Results:
    """Compare every kernel of some ops with their reference.

    ops: an op of this repository by name or glob, a .py file that declares ops, an `Op`, or several of these
    backends: as "nki-sim"; all unless given, and those that are not here are skipped
    targets: chips to simulate; trn2 unless given
    dtypes: the op's unless given
    cases: sets of the op's cases; "smoke" and "adversarial-short" unless given
    names: a glob of case names
    axes: sizes in place of the cases' own, as {"M": 256, "N": [1, 127]}
    seed: of the inputs
    rtol, atol: judge by |out - ref| <= atol + rtol |ref| instead of by honest kernels' errors
    budget: how often an honest kernel's error is allowed; 2 unless given
    timeout: seconds for each phase of a case
    memory: bytes for the worker process; 80 % of what is free unless given
    paranoid: also look for kernels that deceive the judge
    isolated: run kernels in a worker process; if not, they run here, where a debugger reaches them, no limit of time
        or memory holds, and one that crashes ends everything

    UsageError for what does not exist. A kernel that fails raises nothing: see `Results.raise_for_failures`.
    """
    call = described(check, locals())
    request = Request(
        default_sets=("smoke", SHORT_SET),
        backends=words(backends),
        targets=words(targets),
        dtypes=words(dtypes),
        sets=words(cases),
        names=names,
        axes=sizes(axes),
        seed=seed,
        tolerance=bounds("call", rtol, atol, budget),
        timeout_s=timeout,
        memory=memory,
        paranoid=paranoid,
    )
    return carry_out(ops, request, isolated, call)


def bench(
    ops: Chosen,
    *,
    backends: Names = (),
    targets: Names = (),
    dtypes: Names = (),
    cases: Names = "model",
    names: str | None = None,
    axes: Mapping[str, Sizes] | None = None,
    seed: int = 0,
    rtol: float | None = None,
    atol: float | None = None,
    budget: float | None = None,
    timeout: float = TIMEOUT_S,
    memory: int | None = None,
    paranoid: bool = False,
    isolated: bool = True,
    no_check: bool = False,
    tune: float | None = None,
) -> Results:
    """Compare every kernel of some ops with their reference, and time what is right.

    no_check: time what is wrong as well
    tune: seconds a case in which to find, and keep, the fastest configuration of Triton launchers on this GPU first

    Everything else is as for `check`.
    """
    call = described(bench, locals())
    request = Request(
        timed=True,
        no_check=no_check,
        tune_s=tune,
        backends=words(backends),
        targets=words(targets),
        dtypes=words(dtypes),
        sets=words(cases),
        names=names,
        axes=sizes(axes),
        seed=seed,
        tolerance=bounds("call", rtol, atol, budget),
        timeout_s=timeout,
        memory=memory,
        paranoid=paranoid,
    )
    return carry_out(ops, request, isolated, call)


def carry_out(ops: Chosen, request: Request, isolated: bool, call: str) -> Results:
    """A request for some ops, one run for each place that they are from; `call` is how the user put it."""
    if loading.under_way:
        raise UsageError(
            f"triptych is called again while it loads {loading.under_way[-1].name}: put what the file runs by itself "
            'under `if __name__ == "__main__":`'
        )
    runs = []
    for choice in choices(ops, isolated):
        session = Session(runner.run if isolated else runner.InThisProcess(choice.ops), choice.ops)
        run = session.run(replace(request, sources=[choice.source] if choice.source else []), [Progress()])
        if run.interrupted:
            raise KeyboardInterrupt
        runs.append(run)
    return Results(runs, call, request.seed)


def words(names: Names) -> list[str]:
    """Names as a list; a string may hold several, as on the command line."""
    return comma_list(names) if isinstance(names, str) else list(names)


def sizes(axes: Mapping[str, Sizes] | None) -> dict[str, Sequence[int]]:
    """Each axis with all its sizes."""
    return {axis: [size] if isinstance(size, int) else list(size) for axis, size in (axes or {}).items()}


def described(function: Callable[..., Results], given: Mapping[str, Any]) -> str:
    """The call as Python writes it, without what is given as it is by default."""
    parameters = inspect.signature(function).parameters
    ops = f"<op {given['ops'].name}>" if isinstance(given["ops"], Op) else repr(given["ops"])
    rest = [f"{k}={value!r}" for k, value in given.items() if k != "ops" and value != parameters[k].default]
    return f"triptych.{function.__name__}({', '.join([ops, *rest])})"
