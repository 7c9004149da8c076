"""The document of a session: whole after every point, and taken over by the next session on the same GPU."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.harness import files
from triptych.harness.backends.base import file_of
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results import environment
from triptych.harness.results.document import Document, read
from triptych.harness.results.profile import Outcome
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD, Evidence, Status
from triptych.harness.running.resume import JUDGES, sources
from triptych.harness.upkeep.figures.bench_gpu import calls, shares

Identity = tuple[str, str, str]  # op, case, dtype
Key = tuple[str, str, str, str, str | None]  # and backend and target


def identity(case: Case) -> Identity:
    return case.op, case.name, case.dtype


def key(result: Result) -> Key:
    return result.op, result.case, result.dtype, result.backend, result.target


class Record:
    """What is known so far, and the file that holds it.

    ops: the table.
    first, cases: what is checked, and what is timed, in order.
    gpus: on which the session runs.
    results: the rows by their keys; those of other selections in `others`.
    at: the points that a killed session was at.
    """

    def __init__(
        self,
        path: str,
        ops: Mapping[str, Op],
        first: Sequence[Case],
        cases: Sequence[Case],
        gpus: list[dict[str, str]],
        command: str,
    ) -> None:
        self.path, self.ops, self.gpus = path, ops, gpus
        self.env = {**environment.record(), "gpus": gpus, "seed": 0, "command": command, "conformance": {}}
        self.small = {(*identity(case), "triton", None) for case in first}
        checks: list[Key] = [(*identity(case), "triton", None) for case in first]
        timed: list[Key] = [(*identity(c), *who) for c in cases for who in calls.contenders(ops[c.op], c)]
        self.planned = list(dict.fromkeys([*checks, *timed]))
        self.prints = {row[:3]: self.fingerprint(row[:3]) for row in self.planned}
        self.results: dict[Key, Result] = {}
        self.others: list[Outcome] = []
        self.at: list[Identity] = []
        if Path(path).exists():
            self.take_over()

    def fingerprint(self, one: Identity) -> str:
        """What decides the rows of a case, as sixteen hexadecimal digits: sources, versions and the GPU."""
        op = self.ops[one[0]]
        kernels = sources((file_of(op.triton).resolve().parent,)) if op.triton is not None else ""
        versions = [environment.version(name) for name in environment.PACKAGES]
        deciding = [one, kernels, sources(JUDGES), versions, self.gpus]
        return hashlib.sha256(json.dumps(deciding).encode()).hexdigest()[:16]

    def take_over(self) -> None:
        """What the file holds of this selection with the same fingerprint, and what it holds of others."""
        before = read(self.path)
        for result in before.results:
            if not isinstance(result, Result) or key(result)[:3] not in self.prints:
                self.others.append(result)
            elif result.fingerprint == self.prints[key(result)[:3]]:
                self.results[key(result)] = result
        self.at = [(op, case, dtype) for op, case, dtype in before.env.get("under_way", [])]

    def has(self, row: Key) -> bool:
        return row in self.results

    def put(self, result: Result) -> None:
        self.results[key(result)] = result

    def row(self, case: Case, backend: str, target: str | None) -> Result:
        """The row of a case, as it is known or new."""
        fresh = Result(
            op=case.op,
            case=case.name,
            dtype=case.dtype,
            regime=case.regime,
            backend=backend,
            target=target,
            evidence=Evidence.DEVICE,
            status=Status.PASSED,
            fingerprint=self.prints[identity(case)],
        )
        return self.results.get(key(fresh), fresh)

    def wrong_check(self, op: str, dtype: str) -> Result | None:
        """A small case of an op in a dtype that was found to be wrong."""
        found = (result for row, result in self.results.items() if row in self.small and row[0] == op)
        return next((result for result in found if result.dtype == dtype and result.status in BAD), None)

    def ordered(self) -> list[Result]:
        return [self.results[row] for row in self.planned if row in self.results]

    def write(self, under_way: Sequence[Case] = ()) -> None:
        """Put everything into the file; it is complete once all that is planned is there."""
        results = self.ordered()
        env: dict[str, Any] = dict(self.env)
        if under_way:
            env["under_way"] = [list(identity(case)) for case in under_way]
        is_complete = len(results) == len(self.planned)
        shares.add_shares(results)
        every = [*self.others, *results]
        planned = len(self.others) + len(self.planned)
        files.write(self.path, Document(complete=is_complete, planned=planned, env=env, results=every).to_json())
