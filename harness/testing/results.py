"""What `triptych.check` and `triptych.bench` return: a list of results that prints as their table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import overload

from triptych.harness.backends import BACKENDS
from triptych.harness.reports import overview, problems, tables
from triptych.harness.reports.html import render
from triptych.harness.results.document import Document, dumps
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD, RAN, Status
from triptych.harness.running.provenance import provenance
from triptych.harness.running.session import Run


class ChecksFailed(AssertionError):
    """Kernels disagree, or none ran; the text is what `triptych check` prints of it."""


class Results(Sequence[Result]):
    """The result of every case on every backend, in the order of the table that `print` shows.

    runs: one for each place that ops came from
    command: the call that made them, for the document
    """

    def __init__(self, runs: Sequence[Run], command: str, seed: int) -> None:
        self.runs = runs
        self.command = command
        self.seed = seed
        self._results = [result for run in runs for result in run.results]

    def __len__(self) -> int:
        return len(self._results)

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> list[Result]: ...
    def __getitem__(self, index: int | slice) -> Result | list[Result]:
        return self._results[index]

    @property
    def passed(self) -> list[Result]:
        """Those that agree with the reference."""
        return [result for result in self if result.status is Status.PASSED]

    @property
    def failed(self) -> list[Result]:
        """Those that disagree, raised, crashed or took too long."""
        return [result for result in self if result.status in BAD]

    @property
    def skipped(self) -> list[Result]:
        """Those that did not run, because the backend is not here or does not take the case."""
        return [result for result in self if result.status not in RAN]

    @property
    def ok(self) -> bool:
        """Whether a kernel ran and nothing failed; the reference is a kernel where nothing else was asked for."""
        asked = {name for run in self.runs for name in (backend.name for backend in run.plan.backends)}
        references = {name for name in asked if BACKENDS[name].panel == "reference"}
        ran = {result.backend for result in self if result.status in RAN}
        return not self.failed and bool(ran if asked == references else ran - references)

    def raise_for_failures(self) -> Results:
        """These results if they are `ok`, else ChecksFailed."""
        __tracebackhide__ = True
        if self.failed:
            raise ChecksFailed(self._ending())
        if not self.ok:
            raise ChecksFailed(f"no kernel ran: {self._ending()}")
        return self

    @cached_property
    def _env(self) -> dict[str, object]:
        backends = dict.fromkeys(task.backend for run in self.runs for task in run.plan.tasks)
        return provenance(self.command, self.seed, backends)

    def document(self) -> Document:
        """The results with the machine, the versions and the emulators' self-tests, which take some seconds."""
        untried = [line for run in self._documents() for line in run.env.get("not_tried", [])]
        return Document(env={**self._env, **({"not_tried": untried} if untried else {})}, results=list(self))

    def to_json(self) -> str:
        """The document as `triptych check --json` writes it and `triptych report --from` reads it."""
        document = self.document()
        return dumps(document.env, document.results)

    def _documents(self) -> list[Document]:
        return [overview.document(run) for run in self.runs]

    def _ending(self) -> str:
        return overview.ending(self._documents(), seed=self.seed).rstrip("\n")

    def __str__(self) -> str:
        return f"{overview.table(self._results)}{self._ending()}"

    def _repr_html_(self) -> str:
        """What a notebook shows: the table with its colours, then what failed and how many ended how."""
        columns, rows = tables.cells(self._results)
        return render("notebook.html", columns=columns, rows=rows, results=self._results, ending=self._ending())

    def __repr__(self) -> str:
        return f"<Results: {problems.summary(self._results)}>"
