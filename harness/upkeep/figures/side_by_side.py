"""The table of docs/speed.md: our kernels and the best public ones, predicted in one run by one model.

    python -m triptych.harness.upkeep.figures.side_by_side [CHECKOUT ...] [--only WORDS]

A checkout is one of aws-neuron/nki-library (tag 2.29) or a full clone of awslabs/nki-autotune; without it the columns
of its kernels stay empty. The block of the page is rewritten, with the day, the commits and how far off the model is;
with --only, the rows whose name has these words are printed and the page stays. It takes about ten minutes.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from triptych import simulator
from triptych.harness.collection import builtin
from triptych.harness.measured.sources import AUTOTUNE, LIBRARY, NotHere, Public
from triptych.harness.ops.selection import Selection
from triptych.harness.profiling.subjects import of_ops
from triptych.harness.profiling.tracing import traced
from triptych.harness.profiling.validation import prediction_of
from triptych.harness.reports.markdown import markdown_table
from triptych.harness.reports.terminal import StatusLine
from triptych.harness.results.timing_accuracy import LAST_VALIDATION
from triptych.harness.upkeep.figures.side_by_side_works import BF16, WORKS, Work
from triptych.simulator import Prediction

PAGE = Path(__file__).resolve().parents[3] / "docs" / "speed.md"
BLOCK = re.compile(r"(<!-- figures: side by side -->\n).*?(<!-- end -->)", re.DOTALL)
HEADER = ("work", "ours, us", "share", "goal", "public kernel", "its us", "its us / ours", "measured by others")
COMMAND = "python -m triptych.harness.upkeep.figures.side_by_side nki-library nki-autotune"


@dataclass(frozen=True)
class Row:
    """A work with both predictions; of a public kernel, in its place, why there is none."""

    work: Work
    ours: Prediction
    public: Prediction | str | None

    @property
    def cells(self) -> tuple[str, ...]:
        work, us = self.work, self.ours.total_us
        name = its = ratio = ""
        if work.public is not None:
            name = work.public.name.removesuffix("_entry") + (f" ({work.differs})" if work.differs else "")
            if isinstance(self.public, Prediction):
                its, ratio = time(self.public.total_us), f"{self.public.total_us / us:.2f}"
        return work.name, time(us), share(work, self.ours), work.goal, name, its, ratio, work.measured


def time(us: float) -> str:
    return f"{us:,.0f}" if us >= 1000 else f"{us:.1f}"


def share(work: Work, predicted: Prediction) -> str:
    """Useful work a second: of the Tensor Engine's peak in that dtype, with a mask of visible pairs alone; or bytes."""
    op = builtin()[work.op]
    if work.limit == "dma":
        assert op.bytes is not None
        return f"{op.bytes(work.axes, work.params, 2) / predicted.total_us / 1e3:.0f} GB/s"
    assert op.flops is not None
    return f"{predicted.mfu * op.flops(work.axes, work.params) / predicted.flops / work.peak:.1%}"


def row(work: Work, public: Public) -> Row:
    """Both predictions of a work."""
    op = builtin()[work.op]
    one = replace(op, cases={"figures": [{**work.axes, **work.params}]})
    dtype = BF16 if BF16 in op.dtypes else op.dtypes[0]
    (subject,) = of_ops([one], Selection(sets=["figures"], dtypes=[dtype]), {})
    ours = simulator.predict_trace(traced(subject, work.target))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", simulator.SimulatorWarning)  # of what public kernels do against the pages
        return Row(work, ours, None if work.public is None else prediction_of(work.public, public))


def block(rows: Sequence[Row], public: Public, day: datetime.date) -> str:
    """What the page has between its marks."""
    commits = [f"{name} at {commit(public, name)}" for name in (LIBRARY, AUTOTUNE) if name in public.checkouts]
    beside = f"; public kernels of {' and '.join(commits)}" if commits else ""
    failed = [f"* {r.work.name}: {r.public}\n" for r in rows if isinstance(r.public, str)]
    return (
        f"Predicted on {day:%-d %B %Y} for trn2, one core, bfloat16, unless the row says otherwise{beside}. To repeat "
        f"it:\n\n```\n{COMMAND}\n```\n\n"
        f"By the last validation, {LAST_VALIDATION.sentence()}.\n\n"
        f"{markdown_table(HEADER, [r.cells for r in rows])}"
        + ("\nNot predicted:\n\n" + "".join(failed) if failed else "")
    )


def commit(public: Public, name: str) -> str:
    """The commit or tag that a checkout is at, as git says it."""
    path = public.checkout(name).path
    done = subprocess.run(
        ["git", "-C", str(path), "describe", "--tags", "--always"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "a commit unknown to git"


def main(argv: Iterable[str] | None = None) -> int:
    """Predict all rows, and rewrite the page's block or print some."""
    parser = argparse.ArgumentParser(description="predict our kernels and the best public ones, for docs/speed.md")
    parser.add_argument("checkouts", nargs="*", type=Path)
    parser.add_argument("--only", metavar="WORDS", help="print the rows whose name has these words")
    arguments = parser.parse_args(None if argv is None else list(argv))
    try:
        public = Public(arguments.checkouts)
    except NotHere as error:
        parser.error(str(error))
    works = [work for work in WORKS if arguments.only is None or arguments.only in work.name]
    if not works:
        parser.error(f"no row has {arguments.only!r} in its name; there are: {', '.join(w.name for w in WORKS)}")
    line, rows = StatusLine(sys.stderr), []
    try:
        for n, work in enumerate(works):
            line.say(f"[{n}/{len(works)}] {work.name}")
            rows.append(row(work, public))
    finally:
        line.clear()
    made = block(rows, public, datetime.datetime.now(tz=datetime.UTC).date())
    if arguments.only is not None:
        print(made)
        return 0
    PAGE.write_text(BLOCK.sub(lambda m: f"{m[1]}{made}{m[2]}", PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
