"""One program while it runs: its roles take turns at random, and what is asynchronous ends at a random later time.

A role is a thread of which one runs at a time. At each barrier, copy and product it gives way, and a choice, seeded,
falls on a role that can go on or on an operation that can end. So a missing wait, a wrong parity or a place that is
written over too early shows as an error, a deadlock or wrong numbers in some of the orders, and orders can be repeated.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.emulators.errors import EmulationError


class Deadlock(EmulationError):
    """No role can go on."""


class _Stopped(BaseException):
    """The program has failed in another role."""


class Operation:
    """Something asynchronous under way: a copy by TMA, or a product on the tensor cores.

    reads, writes: the shared memory that it may touch at any time until it has ended.
    """

    def __init__(self, what: str, reads: tuple[Array, ...], writes: tuple[Array, ...], end: Callable[[], None]) -> None:
        self.what, self.reads, self.writes, self.end = what, reads, writes, end


class Role:
    """A partition of a program's warps, and its queues of products and of copies to memory, which end in order."""

    def __init__(self, machine: Machine, name: str, work: Callable[[], Any]) -> None:
        self.machine, self.name, self.work = machine, name, work
        self.products: deque[Operation] = deque()
        self.stores: deque[Operation] = deque()
        self.until: Callable[[], bool] = lambda: True
        self.waits_for = ""
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self._go = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._go.acquire()
        try:
            with np.errstate(all="ignore"):  # which is a thread's own
                if not self.machine.stopped:
                    self.result = self.work()
        except _Stopped:
            pass
        except BaseException as error:
            self.error = error
        self.done = True
        self.machine.back.release()

    def step(self) -> None:
        """Run it until it gives way; called by the machine."""
        self._go.release()
        self.machine.back.acquire()

    def give_way(self, until: Callable[[], bool] = lambda: True, what: str = "") -> None:
        """Called by the role itself: let others go on, and come back when the condition holds."""
        self.until, self.waits_for = until, what
        self.machine.back.release()
        self._go.acquire()
        if self.machine.stopped:
            raise _Stopped


class Machine:
    """Roles, operations under way, and shared memory that nobody has made visible to them yet."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.eager = self.chance.choice((0.05, 0.5, 0.95))  # how often an operation ends before a role goes on
        self.back = threading.Semaphore(0)
        self.roles: list[Role] = []
        self.loads: list[Operation] = []
        self.unfenced: list[tuple[Role, Array]] = []  # written by threads, and no fence since
        self.current: Role
        self.stopped = False

    def run(self, work: Callable[[], Any]) -> Any:
        """The result of a program, once every role and every operation has ended."""
        main = self.add("default", work)
        try:
            while not all(role.done for role in self.roles):
                self._one_step()
        finally:
            self.stopped = True
            for role in self.roles:
                if not role.done:
                    role.step()
        left = [*self.loads, *(one for role in self.roles for one in (*role.products, *role.stores))]
        if left:
            raise EmulationError(f"the program ends while {left[0].what} is under way: wait for it")
        return main.result

    def add(self, name: str, work: Callable[[], Any]) -> Role:
        self.roles.append(Role(self, name, work))
        return self.roles[-1]

    def _one_step(self) -> None:
        ready = [role for role in self.roles if not role.done and role.until()]
        queues = [queue for role in self.roles for queue in (role.products, role.stores) if queue]
        ends = len(self.loads) + len(queues)
        if not ready and not ends:
            waits = [f"{role.name} for {role.waits_for}" for role in self.roles if not role.done]
            raise Deadlock(f"no role can go on: waiting are {'; '.join(waits)}")
        if ready and (not ends or self.chance.random() >= self.eager):
            self.current = self.chance.choice(ready)
            self.current.step()
            if self.current.error is not None:
                raise self.current.error
            return
        at = self.chance.randrange(ends)
        (self.loads.pop(at) if at < len(self.loads) else queues[at - len(self.loads)].popleft()).end()

    def begin(self, operation: Operation, queue: Any, by_async_proxy: bool = True) -> None:
        """Put an operation under way, if nothing that is under way forbids it."""
        for memory in operation.reads:
            self.check(memory, writes=False, what=operation.what)
            if by_async_proxy and any(np.may_share_memory(memory, dirty) for _, dirty in self.unfenced):
                raise EmulationError(
                    f"{operation.what} reads what threads wrote without fence_async_shared() in between"
                )
        for memory in operation.writes:
            self.check(memory, writes=True, what=operation.what)
        queue.append(operation)

    def check(self, memory: Array, writes: bool, what: str) -> None:
        """EmulationError if an operation under way writes this memory, or reads it and it is to be written."""
        for one in (*self.loads, *(one for role in self.roles for one in (*role.products, *role.stores))):
            touched = (*one.writes, *one.reads) if writes else one.writes
            if any(np.may_share_memory(memory, other) for other in touched):
                verb = "writes" if writes else "reads"
                raise EmulationError(f"{what} {verb} shared memory while {one.what} is under way there")

    def fence(self) -> None:
        self.unfenced = [(role, memory) for role, memory in self.unfenced if role is not self.current]


class Barrier:
    """An mbarrier: a phase ends when as many have arrived as it counts and all expected bytes are there.

    PTX ISA, "mbarrier": waiting for a parity holds while the phase under way has that parity.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0  # 0: not initialised
        self.pending = self.bytes = self.phase = 0

    def init(self, count: int) -> None:
        self.count = self.pending = count
        self.bytes = self.phase = 0

    def arrive(self, count: int = 1) -> None:
        self._check()
        self.pending -= count
        if self.pending < 0:
            raise EmulationError(f"more than {self.count} arrive in one phase of {self.name}")
        self._turn()

    def expect(self, size: int) -> None:
        self._check()
        self.bytes += size
        self.arrive()

    def copied(self, size: int) -> None:
        self._check()
        self.bytes -= size
        self._turn()

    def passed(self, parity: int) -> bool:
        self._check()
        return self.phase & 1 != parity

    def _turn(self) -> None:
        if self.pending == 0 and self.bytes == 0:
            self.phase, self.pending = self.phase + 1, self.count

    def _check(self) -> None:
        if not self.count:
            raise EmulationError(f"{self.name} is used before mbarrier.init")
