"""Ray, and nothing but Ray: to connect to a cluster, to start a seat on each of its cores, to ask and to lose them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from triptych.harness.cluster import placing, versions
from triptych.harness.cluster.hands import Load, SeatLost
from triptych.harness.cluster.seat import CPU, GPU, NEURON, About, Seat
from triptych.harness.cluster.travel import Luggage
from triptych.harness.errors import UsageError, describe
from triptych.harness.results.environment import EMULATION
from triptych.harness.results.result import Result
from triptych.harness.running.tasks import Settings, Task
from triptych.harness.running.workers import cores

NO_RAY = "--cluster needs Ray, which is not installed: pip install 'triptych[cluster]'."
ADDRESSES = "HOST:PORT is the head's own port (6379 as a rule), ray://HOST:PORT the one for clients (10001)."
LOCAL = "local"
STORE = 80 * 2**20  # bytes, about the least that Ray takes; little travels
REACHED_S, ANSWERED_S = 5.0, 60.0  # how long to wait for an address, and for a node
STARTED_S, QUIET_S = 120.0, 20.0  # for all seats; for another once one is there
SETTINGS = {  # Ray's, which it reads when it is imported
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a seat hides what it does not hold itself
}


class Cluster:
    """A connection. `local` starts Ray on this machine for as long as it lasts.

    address: `local`, `auto`, `HOST:PORT` or `ray://HOST:PORT`
    jobs: how many seats at most; None: as many as there are cores
    """

    def __init__(self, address: str, jobs: int | None) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError:
            raise UsageError(NO_RAY) from None
        self.ray, self.jobs = ray, jobs
        check_reachable(address)
        starting = {"num_cpus": jobs or cores.usable(), "object_store_memory": STORE, "include_dashboard": False}
        try:
            with signals_kept(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what they say is in the error as well
                ray.init(
                    address=address,
                    logging_level="CRITICAL",
                    log_to_driver=False,
                    **(starting if address == LOCAL else {}),
                )
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
            raise UsageError(
                f"cannot use the cluster at {address}: {describe(error).rstrip('.')}. {ADDRESSES}"
            ) from error

    def close(self) -> None:
        self.ray.shutdown()

    def seats(self) -> list[RaySeat]:
        """A seat for each core of each node that is alive; UsageError where versions differ, or if none starts."""
        nodes = [node for node in self.ray.nodes() if node["Alive"] and placing.holdings(node["Resources"])]
        names = node_names(nodes)
        nodes.sort(key=lambda node: names[node["NodeID"]])
        self._check_versions({node["NodeID"]: names[node["NodeID"]] for node in nodes})
        chosen = placing.in_turns([placing.holdings(node["Resources"]) for node in nodes], self.jobs)
        ids = [node["NodeID"] for node in nodes]
        seats = [RaySeat(self.ray, ids[at], names[ids[at]], holds, amount) for at, holds, amount in chosen]
        why = wait_for(self.ray, seats)
        started = [seat for seat in seats if seat.is_there]
        answers: dict[object, Any] = {}
        for seat in started:
            if seat.kind not in answers:
                answers[seat.kind] = seat.ask_about()
        found = []
        for seat in started:
            with contextlib.suppress(self.ray.exceptions.RayError):  # it was lost just now
                seat.about = self.ray.get(answers[seat.kind])
                found.append(seat)
        if not found:
            raise UsageError(f"the cluster started no worker{f': {why}' if why else ': its cores are taken'}.")
        return found

    def _check_versions(self, names: Mapping[str, str]) -> None:
        """UsageError unless every node has the versions of this machine."""

        def asked() -> dict[str, str]:  # sent by its code, so that a node without this file can say so
            try:
                from triptych.harness.cluster.versions import here
            except ImportError:
                return {}
            return here()

        ask = self.ray.remote(asked)
        asking = {
            name: ask.options(num_cpus=0, max_retries=0, scheduling_strategy=on_node(self.ray, node)).remote()
            for node, name in names.items()
        }
        mine = versions.here()
        for name, answer in asking.items():
            try:
                theirs = self.ray.get(answer, timeout=ANSWERED_S)
            except self.ray.exceptions.GetTimeoutError:
                raise UsageError(f"node {name} did not say its versions within {ANSWERED_S:g} s.") from None
            except self.ray.exceptions.RayError as error:
                raise UsageError(f"node {name} could not be asked for its versions: {describe(error)}.") from error
            if not theirs:
                raise UsageError(f"node {name} has no triptych {mine['triptych']}: install it there as it is here.")
            if why := versions.difference(mine, theirs, name):
                raise UsageError(why)


class RaySeat:
    """A `Seat` in an actor, which holds a core and perhaps a device of one node, from here."""

    about: About
    luggage: Luggage | None = None  # what tasks name files of

    def __init__(self, ray: Any, node_id: str, node: str, holds: str, amount: int) -> None:
        self.ray, self.node_id, self.node, self.holds = ray, node_id, node, holds
        variables = {name: os.environ[name] for name in EMULATION if name in os.environ}
        self._start = (
            ray.remote(Seat)
            .options(
                num_cpus=1,
                num_gpus=amount if holds == GPU else 0,
                resources={NEURON: amount} if holds == NEURON else {},
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy=on_node(ray, node_id),
            )
            .remote
        )
        self._arguments = (node, holds, variables)
        self._actor = self._start(*self._arguments)
        self.is_there = True
        self.was_lost = False  # and did not come back
        self._sent: str | None = None  # the digest of what was unpacked there
        self._learnt: Load | None = None
        self.asked = self._actor.is_there.remote()

    @property
    def kind(self) -> object:
        """What has the same to say of itself: seats without a device, of which a node may have hundreds."""
        return self.node_id if self.holds == CPU else self

    def ask_about(self) -> Any:
        """What becomes an `About`."""
        return self._actor.about.remote()

    def come_back(self) -> bool:
        """Start the actor again, unless its node is gone too."""
        self._actor, self._sent, self._learnt = self._start(*self._arguments), None, None
        answer, end = self._actor.is_there.remote(), time.monotonic() + ANSWERED_S
        while time.monotonic() < end and self.node_id in {n["NodeID"] for n in self.ray.nodes() if n["Alive"]}:
            if self.ray.wait([answer], timeout=1.0)[0]:
                with contextlib.suppress(self.ray.exceptions.RayError):
                    self.is_there = self.ray.get(answer)
                    self.was_lost = False
                break
        if not self.is_there:
            self.kill()
        return self.is_there

    def perform(self, task: Task, settings: Settings, timeout_s: float) -> Result:
        digest = self._send(self.luggage) if task.source is not None else ""
        result: Result = self._ask(self._actor.perform, task, digest, settings, timeout_s)
        return result

    def call(self, load: Load, number: int) -> Any:
        if self._learnt is not load:
            digest = self._send(load.luggage)
            self._ask(self._actor.learn, load.make, load.sources, load.arguments, digest)
            self._learnt = load
        return self._ask(self._actor.call, number)

    def _send(self, luggage: Luggage | None) -> str:
        """The digest of files that are there from now on; empty for none."""
        if luggage is not None and self._sent != luggage.digest:
            self._ask(self._actor.unpack, luggage)
            self._sent = luggage.digest
        return luggage.digest if luggage is not None else ""

    def stop(self) -> None:
        self._ask(self._actor.stop)

    def kill(self) -> None:
        self.is_there = False
        with contextlib.suppress(self.ray.exceptions.RayError, ValueError):  # it is gone already
            self.ray.kill(self._actor)

    def _ask(self, method: Any, *arguments: Any) -> Any:
        """What a method of the actor returns, or raises; SeatLost if nobody answers."""
        if not self.is_there:
            raise SeatLost("its worker was ended")
        try:
            return self.ray.get(method.remote(*arguments))
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, Exception):
                raise error.cause from error  # as if it had been raised here
            raise
        except self.ray.exceptions.RayError as error:
            self.was_lost = self.is_there  # and not ended from here
            self.kill()  # of which nobody can say whether it is still at work
            raise SeatLost(type(error).__name__) from error


def wait_for(ray: Any, seats: Sequence[RaySeat]) -> str:
    """Wait until seats are there; end those that do not come, and say why one did not."""
    waiting = {seat.asked: seat for seat in seats}
    begun = news = time.monotonic()
    any_there, why = False, ""
    while waiting:
        ready, _ = ray.wait(list(waiting), timeout=1.0)
        for answer in ready:
            seat = waiting.pop(answer)
            try:
                any_there, news = ray.get(answer), time.monotonic()
            except ray.exceptions.RayError as error:
                seat.is_there, why = False, f"node {seat.node}: {describe(error)}"
        now = time.monotonic()
        if now - begun > STARTED_S or (any_there and now - news > QUIET_S):
            break
    for seat in waiting.values():
        seat.kill()
    return why


def check_reachable(address: str) -> None:
    """UsageError within seconds where Ray itself would try for minutes."""
    place = address.removeprefix("ray://")
    host, _, port = place.rpartition(":")
    if not host:
        return  # a word
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED_S).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"nobody answers at {address}: {why}.") from error
    if not speaks_grpc(place):
        raise UsageError(f"what answers at {address} is no Ray: it does not speak gRPC within {REACHED_S:g} s.")


def speaks_grpc(place: str) -> bool:
    """Whether a gRPC server is there; yes also where that cannot be asked."""
    try:
        import grpc
    except ImportError:
        return True
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return True
    with grpc.insecure_channel(place) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=REACHED_S)
        except grpc.FutureTimeoutError:
            return False
    return True


def on_node(ray: Any, node_id: str) -> Any:
    """Ray's words for: on this node or not at all."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id, soft=False)


def node_names(nodes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What nodes are called, by their id: as `ray start --node-name` said, else by address; told apart where equal."""
    said = {node["NodeID"]: str(node.get("NodeName") or node["NodeManagerAddress"]) for node in nodes}
    names = list(said.values())
    return {id: f"{name}/{id[:6]}" if names.count(name) > 1 else name for id, name in said.items()}


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Ray puts a handler of its own in the place of ours, which keeps what is finished."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
