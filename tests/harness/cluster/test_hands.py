"""Who performs what on which node, and who tries again what was lost: on seats that need no cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from triptych.harness.cluster.fleet import perform
from triptych.harness.cluster.hands import SeatLost
from triptych.harness.cluster.placing import holdings, in_turns, placed
from triptych.harness.cluster.seat import CPU, GPU, NEURON, About
from triptych.harness.ops.case import Case
from triptych.harness.results.origin import Node
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Evidence, Status
from triptych.harness.running.tasks import Settings, Task, result_without_run

HOST = {"numpy": Evidence.REFERENCE, "nki-sim": Evidence.SIMULATED}
WITH_GPU = {**HOST, "triton": Evidence.DEVICE}
WITH_NEURON = {**HOST, "nki": Evidence.DEVICE}
EVERY = ("numpy", "nki-sim", "nki", "triton")
Script = Callable[["Seat", Task], "Cause | None"]


class Seat:
    """A seat of a node; `script` says how a task ends there, and may raise SeatLost."""

    def __init__(self, node: str, script: Script, evidence: dict[str, Evidence] = HOST, returns: bool = False) -> None:
        missing = {name: None if name in evidence else f"no {name} on {node}" for name in EVERY}
        self.about = About(Node(node=node, cpu="a CPU"), missing, evidence, 8 * 2**30, "an H200" * (evidence != HOST))
        self.script, self.returns = script, returns
        self.is_there = True
        self.asked: list[tuple[str, str, bool, int | None]] = []
        self.stopped = 0

    def perform(self, task: Task, settings: Settings, timeout_s: float) -> Result:
        self.asked.append((task.case.name, task.backend, task.bench, settings.memory))
        try:
            cause = self.script(self, task)
        except SeatLost:
            self.is_there = False
            raise
        status = Status.ERROR if cause else Status.PASSED
        return result_without_run(task, status, "so it was", cause, self.about.evidence[task.backend])

    def come_back(self) -> bool:
        self.is_there = self.returns
        return self.is_there

    def kill(self) -> None:
        self.is_there = False

    def stop(self) -> None:
        self.stopped += 1


def tasks_of(*cases: str, backends: tuple[str, ...] = ("numpy", "nki-sim"), bench: bool = False) -> list[Task]:
    made = [Case("matmul", name, {"M": i}, "float32") for i, name in enumerate(cases)]
    return [Task("matmul", None, case, backend, None, bench=bench) for case in made for backend in backends]


def results_of(seats: list[Seat], tasks: list[Task], settings: Settings | None = None) -> dict[tuple[str, str], Result]:
    found: list[Result] = []
    perform(seats, tasks, settings or Settings(), 1.0, found.append)
    assert len(found) == len(tasks), "a result for every task, and one alone"
    return {(result.case, result.backend): result for result in found}


def fine(seat: Seat, task: Task) -> None:
    return None


def once(*what: tuple[str, str], raises: bool) -> Script:
    """Ends a seat, or its worker, the first time that it is asked for one of some (case, backend)."""
    left = list(what)

    def script(seat: Seat, task: Task) -> Cause | None:
        if (task.case.name, task.backend) in left:
            left.remove((task.case.name, task.backend))
            if raises:
                raise SeatLost("NodeDied")
            return Cause.WORKER_DIED
        return None

    return script


def test_a_case_whose_node_is_lost_is_run_again_elsewhere_after_what_it_shares_with() -> None:
    lose = once(("a", "nki-sim"), raises=True)
    seats = [Seat(node, lose) for node in ("one", "two")]
    found = results_of(seats, tasks_of("a", bench=True))
    assert {result.status for result in found.values()} == {Status.PASSED}
    lost, other = sorted(seats, key=lambda seat: seat.is_there)
    assert found["a", "numpy"].node == lost.about.node.node and found["a", "nki-sim"].node == other.about.node.node
    assert [asked[:3] for asked in lost.asked] == [("a", "numpy", True), ("a", "nki-sim", True)]
    assert [asked[:3] for asked in other.asked] == [("a", "numpy", False), ("a", "nki-sim", True)], (
        "what it shares with"
    )


def test_what_is_lost_twice_is_an_error_of_its_own_that_says_so() -> None:
    lose = once(("b", "numpy"), ("b", "numpy"), raises=True)
    seats = [Seat(node, lose, returns=True) for node in ("one", "two")]
    found = results_of(seats, tasks_of("a", "b", "c"))
    bad = found.pop(("b", "numpy"))
    assert (bad.status, bad.cause) == (Status.ERROR, Cause.WORKER_DIED)
    assert bad.reason in [
        f"its worker was lost on node {a} and again on node {b}: NodeDied" for a, b in (("one", "two"), ("two", "one"))
    ]
    assert {result.status for result in found.values()} == {Status.PASSED}


def test_the_last_node_tries_its_own_loss_again_and_then_says_that_nobody_is_left() -> None:
    (seat,) = seats = [Seat("one", once(("a", "numpy"), raises=True), returns=True)]
    assert {r.status for r in results_of(seats, tasks_of("a", "b")).values()} == {Status.PASSED}
    assert [asked[0] for asked in seat.asked] == ["a", "a", "a", "b", "b"]
    found = results_of([Seat("one", once(("b", "numpy"), raises=True))], tasks_of("a", "b", "c"))
    left = [case for (case, _), result in found.items() if "no worker of the cluster is left" in str(result.reason)]
    assert left == ["b", "b", "c", "c"] and found["a", "nki-sim"].status is Status.PASSED


@pytest.mark.parametrize("times", [1, 2])
def test_a_worker_that_dies_of_a_kernel_costs_one_more_try_on_another_node(times: int) -> None:
    die = once(*[("a", "nki-sim")] * times, raises=False)
    seats = [Seat(node, die) for node in ("one", "two")]
    found = results_of(seats, tasks_of("a", "b", "c"))
    tried = [seat.about.node.node for seat in seats for asked in seat.asked if asked[:2] == ("a", "nki-sim")]
    assert sorted(tried) == ["one", "two"], "and on no third one"
    result = found.pop(("a", "nki-sim"))
    assert (result.status, result.cause) == ((Status.PASSED, None) if times == 1 else (Status.ERROR, Cause.WORKER_DIED))
    assert result.reason == "so it was", "as on one machine"
    assert {result.status for result in found.values()} == {Status.PASSED}


def test_a_task_goes_where_its_backend_is_and_says_where_that_was() -> None:
    seats = [Seat("cpu", fine), Seat("h200", fine, WITH_GPU), Seat("trn2", fine, WITH_NEURON)]
    found = results_of(seats, tasks_of("a", "b", backends=("numpy", "triton", "nki", "torch")[:3]))
    assert {key[1]: (result.node, result.device) for key, result in found.items()} == {
        "numpy": ("h200", "a CPU"),
        "triton": ("h200", "an H200"),
        "nki": ("trn2", "an H200"),
    }, "the reference beside the device's backends, on whose node it is shared"
    found = results_of(seats[:2], tasks_of("a", backends=("numpy", "nki")))
    skipped = found["a", "nki"]
    assert (skipped.status, skipped.reason, skipped.node) == (Status.SKIPPED, "no nki on cpu", "")


def test_who_is_timed_is_alone_on_its_node_and_not_in_the_cluster() -> None:
    at_work: dict[str, int] = {}
    together: list[tuple[str, int]] = []
    both_nodes = threading.Barrier(2)
    noting = threading.Lock()

    def script(seat: Seat, task: Task) -> None:
        node = seat.about.node.node
        with noting:
            at_work[node] = at_work.get(node, 0) + 1
        both_nodes.wait(timeout=30)
        with noting:
            together.append((node, at_work[node]))
            at_work[node] -= 1

    seats = [Seat(node, script) for node in ("one", "one", "two", "two")]
    results_of(seats, tasks_of(*"abcdefgh", backends=("numpy",), bench=True))
    assert len(together) == 8 and {count for _, count in together} == {1}


def test_a_share_of_the_nodes_memory_and_then_all_of_it() -> None:
    def short(seat: Seat, task: Task) -> Cause | None:
        return Cause.OUT_OF_MEMORY if (seat.asked[-1][3] or 0) < 8 * 2**30 and task.backend == "nki-sim" else None

    seats = [Seat("one", short), Seat("one", short)]
    found = results_of(seats, tasks_of("a"))
    assert {result.status for result in found.values()} == {Status.PASSED}
    asked = [asked[1:2] + asked[3:] for seat in seats for asked in seat.asked]
    share, whole = 4 * 2**30, 8 * 2**30
    assert asked == [("numpy", share), ("nki-sim", share), ("numpy", whole), ("nki-sim", whole)]
    assert sum(seat.stopped for seat in seats) == 2, "before it has all of the memory, and after"


# How many seats


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"CPU": 2.0}, [(CPU, 0)] * 2),
        ({"CPU": 4.0, "GPU": 2.0}, [(GPU, 1)] * 2 + [(CPU, 0)] * 2),
        ({"CPU": 1.0, "GPU": 8.0}, [(GPU, 1)]),
        ({"CPU": 3.0, "neuron_cores": 64.0}, [(NEURON, 64), (CPU, 0), (CPU, 0)]),
        ({"CPU": 8.0, "memory": 3.5 * 2**30}, [(CPU, 0)] * 3),
        ({"CPU": 8.0, "memory": 2.0**29}, [(CPU, 0)]),
        ({"memory": 2.0**40}, []),
    ],
)
def test_a_node_has_a_seat_for_each_device_and_for_the_cores_that_are_left(
    resources: dict[str, float], expected: list[tuple[str, int]]
) -> None:
    assert holdings(resources) == expected


def test_few_seats_are_the_devices_and_then_one_of_each_node() -> None:
    nodes = [[(CPU, 0)] * 3, [(GPU, 1), (CPU, 0)], [(NEURON, 2), (CPU, 0)]]
    assert in_turns(nodes, 4) == [(1, GPU, 1), (2, NEURON, 2), (0, CPU, 0), (0, CPU, 0)]
    assert len(in_turns(nodes, None)) == 7


def test_the_same_plan_whatever_the_order_of_the_tasks_backends() -> None:
    abouts: list[Any] = [Seat("h", fine, WITH_GPU).about, Seat("t", fine, WITH_NEURON).about, Seat("c", fine).about]
    tasks = tasks_of("a", backends=("numpy", "nki", "nki-sim", "triton"))
    found = placed(tasks, abouts)
    assert found.chains == [[0, 2, 3], [1]] and found.missing == {}
    assert found.wanted[0] == {**HOST, "triton": Evidence.DEVICE} and found.wanted[1] == {"nki": Evidence.DEVICE}
    host = placed([*tasks_of("x"), *tasks_of("a", backends=("triton",))], abouts)
    assert host.chains == [[2], [0, 1]] and host.wanted[0] == HOST, (
        "devices first, and a case of none is for every node"
    )
