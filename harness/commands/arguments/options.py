"""The options of the commands, in the groups that `--help` shows.

An option that asks for something of a run is called as the field of `Request` that holds it (`dest=`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from triptych.harness.comma_lists import comma_list
from triptych.harness.commands.arguments import values
from triptych.harness.nki_versions import VERSIONS

Options = Callable[[argparse.ArgumentParser], None]

CASE_SETS = (
    "smoke, edge, adversarial-short, adversarial, model, model-long"  # for --help; what an op has is in its `cases`
)
DTYPES = "float32, bfloat16, float16"
LIST: dict[str, Any] = {"action": "extend", "type": comma_list, "default": []}
FILES: dict[str, Any] = {"dest": "sources", "action": "append", "default": []}
AXES: dict[str, Any] = {"action": values.Axes, "default": {}, "metavar": "AXIS=V,..."}


def no_options(parser: argparse.ArgumentParser) -> None:
    """Of a command that takes none."""


def add_selection(parser: argparse.ArgumentParser, cases: str) -> None:
    """What to run on what; `cases` are the sets that run unless others are named."""
    group = parser.add_argument_group("what to run")
    group.add_argument(
        "ops",
        nargs="*",
        metavar="OP",
        help="ops or globs, as matmul or 'mat*', or your own files, as kernel.py (default: all of ours)",
    )
    group.add_argument(
        "--kernel", **FILES, metavar="PATH", help="take the ops of your own file instead (see `triptych new`)"
    )
    group.add_argument(
        "--backend", dest="backends", **LIST, metavar="B,...", help="default: all, those not here are skipped"
    )
    group.add_argument("--target", dest="targets", **LIST, metavar="T,...", help="chips to simulate (default: trn2)")
    add_nki(group)
    group.add_argument("--dtype", dest="dtypes", **LIST, metavar="D,...", help=f"{DTYPES} (default: the op's)")
    group.add_argument("--cases", dest="sets", **LIST, metavar="SET,...", help=f"{CASE_SETS} (default: {cases})")
    group.add_argument("-k", dest="names", metavar="CASE", help="only cases of this name or glob")
    group.add_argument(
        "--case",
        dest="specs",
        action="append",
        default=[],
        metavar="AXIS=V,...",
        help="a case of your own, as M=3,K=5,N=7",
    )
    group.add_argument("-a", dest="axes", **AXES, help="sizes, as -a M=256,1024 or -a M=256:8192:x2 (or :+256)")
    group.add_argument("--seed", type=values.seed, default=0, metavar="N", help="of the inputs (default: 0)")
    parser.set_defaults(default_sets=comma_list(cases))


def add_judgement(parser: argparse.ArgumentParser, timed: bool) -> None:
    """How to run and to judge; `timed` is whether the command also takes times."""
    group = parser.add_argument_group("how to judge")
    group.add_argument(
        "--rtol", type=values.tolerance, metavar="X", help="judge by |out - ref| <= atol + rtol |ref| instead"
    )
    group.add_argument("--atol", type=values.tolerance, metavar="X", help="(default: twice an honest kernel's error)")
    group.add_argument(
        "--budget", type=values.budget, metavar="X", help="allow X times an honest kernel's error (default: 2x)"
    )
    group.add_argument(
        "--timeout",
        dest="timeout_s",
        type=values.seconds,
        default=120.0,
        metavar="T",
        help="per case, as 90 or 2m (default: 2m)",
    )
    group.add_argument(
        "--memory", type=values.size, metavar="N", help="per worker, as 8G or 500M (default: 80%% of what is free)"
    )
    add_jobs(group)
    group.add_argument("--require", dest="required", **LIST, metavar="B,...", help="exit 6 unless these backends ran")
    group.add_argument("--strict", action="store_true", help="a skipped or unsupported case is a failure too")
    group.add_argument("-x", dest="stop", action="store_true", help="stop at the first case that does not pass")
    group.add_argument(
        "--paranoid", action="store_true", help="also look for kernels that deceive the judge, as agents' may"
    )
    if timed:
        group.add_argument("--no-check", action="store_true", help="time kernels whether or not they are right")
    parser.set_defaults(timed=timed)


def add_output(parser: argparse.ArgumentParser, html: str | None) -> None:
    """Where results go; `html` is the file of the report unless another is named."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", metavar="PATH", help="everything, as one document (- is stdout, and nothing else is)")
    group.add_argument(
        "--resume", metavar="PATH", help="keep results in this file as they come, and run only what it does not hold"
    )
    group.add_argument(
        "--label", metavar="NAME", help="what documents and reports call this machine (default: nothing)"
    )
    group.add_argument("--csv", metavar="PATH", help="one row a result (- is stdout)")
    group.add_argument("--md", metavar="PATH", help="a Markdown table (- is stdout)")
    group.add_argument(
        "--html", metavar="PATH", default=html, help="a report" + (f" (default: {html})" if html else "")
    )
    group.add_argument(
        "-q", "--quiet", action="store_true", help="no progress and no table: problems and the last line"
    )


def add_check(parser: argparse.ArgumentParser) -> None:
    add_selection(parser, "smoke,adversarial-short")
    parser.add_argument(
        "--fuzz",
        type=values.seconds,
        metavar="T",
        help="search for a failing case this long, as 60 or 5m, and shrink it",
    )
    parser.add_argument("--watch", action="store_true", help="run again whenever a source is saved, what failed first")
    add_judgement(parser, timed=False)
    add_cluster(parser)
    add_output(parser, html=None)


def add_timed(parser: argparse.ArgumentParser, cases: str, html: str | None) -> None:
    add_selection(parser, cases)
    add_judgement(parser, timed=True)
    parser.add_argument(
        "--tune",
        dest="tune_s",
        type=values.seconds,
        metavar="T",
        help="first find and keep the fastest configuration of Triton launchers on this GPU, in T a case, as 10 or 1m",
    )
    add_cluster(parser)
    add_output(parser, html)


add_bench: Options = partial(add_timed, cases="model", html=None)
add_run: Options = partial(add_timed, cases="smoke", html="report.html")


def add_report(parser: argparse.ArgumentParser) -> None:
    add_timed(parser, cases="smoke,model", html="report.html")
    parser.add_argument("--from", dest="saved", nargs="+", metavar="JSON", help="render saved results, run nothing")


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Two sides, what to run where they are not saved, and the limits of the gate."""
    parser.add_argument("base", metavar="BASE", help="a document, kernel file, FILE.py:FUNCTION, revision or backend")
    parser.add_argument("new", metavar="NEW", help="the same, which is held against it")
    add_selection(parser, cases="model")
    add_judgement(parser, timed=True)
    parser.add_argument(
        "--fail-on", metavar="LIMITS", help="exit 3 if a time is longer by more, as predicted:2%%,median:5%%"
    )
    group = parser.add_argument_group("output")
    group.add_argument("--json", metavar="PATH", help="every change, as one document (- is stdout)")
    group.add_argument("--md", metavar="PATH", help="a comment for a pull request, of 60 lines at most (- is stdout)")
    group.add_argument("--html", metavar="PATH", help="a page with both timelines of an NKI kernel on one axis")
    group.add_argument("--github", action="store_true", help="also print what regressed as annotations of GitHub")
    group.add_argument("-q", "--quiet", action="store_true", help="no progress and no table: the verdict alone")


def add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ops", nargs="*", metavar="OP", help="ops or globs, or your own files")
    parser.add_argument("--kernel", **FILES, metavar="PATH", help="the ops of your own file")
    parser.add_argument("--json", metavar="PATH", help="as one document (- is stdout)")


def add_profile(parser: argparse.ArgumentParser) -> None:
    """What to predict, and where the prediction goes."""
    group = parser.add_argument_group("what to predict")
    group.add_argument("ops", nargs="*", metavar="OP", help="ops or globs, or your own files (default: all of ours)")
    group.add_argument(
        "--kernel", **FILES, metavar="PATH[:F]", help="the ops of your own file; with :F, its function F"
    )
    group.add_argument(
        "--arg",
        dest="args",
        action="append",
        default=[],
        metavar="A",
        help="argument of F: 4096x128:bfloat16, 0.5, causal=True",
    )
    group.add_argument(
        "--backend",
        choices=("nki-sim", "triton"),
        help="NKI kernels on the simulator, or Triton's as the compiler sees them (default: as the targets say)",
    )
    group.add_argument(
        "--target",
        dest="targets",
        **LIST,
        metavar="T,...",
        help="chips, side by side (default: trn2; of triton sm_80, sm_90, sm_100, gfx942)",
    )
    add_nki(group)
    group.add_argument("--dtype", dest="dtypes", **LIST, metavar="D,...", help="(default: bfloat16, or the op's first)")
    group.add_argument("--cases", dest="sets", **LIST, metavar="SET,...", help="(default: model; smoke with -a)")
    group.add_argument("-k", dest="names", metavar="CASE", help="only cases of this name or glob")
    group.add_argument("-a", dest="axes", **AXES, help="sizes, as -a M=256,1024 or -a M=256:8192:x2 (or :+256)")
    group.add_argument(
        "--seed", type=values.seed, default=0, metavar="N", help="of inputs, where data matters (default: 0)"
    )
    parser.add_argument("--watch", action="store_true", help="predict again whenever a source is saved")
    group = parser.add_argument_group("how to predict")
    add_jobs(group)
    group.add_argument(
        "--order",
        choices=("overlapped", "program", "both"),
        default="overlapped",
        help="what a compiler's scheduler would overlap, or queues as they are written (default: overlapped)",
    )
    group.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="FIELD=X",
        help="what if the chip had X, as dma_gb_per_s=800; or @FILE of `triptych calibrate`",
    )
    group.add_argument(
        "--no-data", action="store_true", help="never draw inputs: a kernel whose control flow depends on data fails"
    )
    group = parser.add_argument_group("output")
    group.add_argument("--trace", metavar="FILE", help="the timeline for ui.perfetto.dev (.gz compresses)")
    group.add_argument("--html", metavar="FILE", help="a page with the timeline and memory over time")
    group.add_argument("--label", metavar="NAME", help="what the document calls this machine (default: nothing)")
    group.add_argument("--json", metavar="PATH", help="everything, as one document (- is stdout, and nothing else is)")


def add_compile(parser: argparse.ArgumentParser) -> None:
    """What to compile for which GPUs."""
    parser.add_argument("ops", nargs="*", metavar="OP", help="ops or globs, or your own files (default: all of ours)")
    parser.add_argument("--kernel", **FILES, metavar="PATH", help="the ops of your own file")
    parser.add_argument(
        "--target", dest="targets", **LIST, metavar="T,...", help="sm_80, sm_90, sm_100, gfx942 (default: all of them)"
    )
    parser.add_argument(
        "--dtype", dest="dtypes", **LIST, metavar="D,...", help="(default: bfloat16, or the op's first)"
    )
    parser.add_argument("--cases", dest="sets", **LIST, metavar="SET,...", help="(default: model; smoke with -a)")
    parser.add_argument("-k", dest="names", metavar="CASE", help="only cases of this name or glob")
    parser.add_argument("-a", dest="axes", **AXES, help="sizes, as -a M=256,1024 or -a M=256:8192:x2 (or :+256)")
    parser.add_argument("--json", metavar="PATH", help="everything, as one document (- is stdout, and nothing else is)")


def add_tune(parser: argparse.ArgumentParser) -> None:
    """Which kernel to tune on which cases, and where the table and the choice go."""
    add_selection(parser, cases="model, or smoke with -a")
    group = parser.add_argument_group("how to tune")
    group.add_argument(
        "--knob",
        dest="knobs",
        action="append",
        default=[],
        metavar="NAME=V,...",
        help="try these values alone; a knob that is not named then stays as it is",
    )
    group.add_argument(
        "--timeout", dest="timeout_s", type=values.seconds, default=120.0, metavar="T", help="per judged case"
    )
    add_jobs(group)
    add_cluster(group)
    group = parser.add_argument_group("output")
    group.add_argument("--write", action="store_true", help="put the choice into the kernel's file")
    group.add_argument("--json", metavar="PATH", help="every setting, as one document (- is stdout)")
    group.add_argument("--md", metavar="PATH", help="the table in Markdown (- is stdout)")
    group.add_argument("-q", "--quiet", action="store_true", help="no progress and no table: the choice alone")


def add_nki(parser: argparse._ActionsContainer) -> None:
    """Which NKI kernels are written for; the command runs with it (cli.nki_version)."""
    parser.add_argument("--nki", choices=VERSIONS, help=f"the version of NKI (default: {VERSIONS[0]})")


def add_jobs(parser: argparse._ActionsContainer) -> None:
    """How many processes work at once; None where the user leaves it to the machine."""
    parser.add_argument("--jobs", type=values.count, metavar="N", help="workers at once (default: one a core)")


def add_cluster(parser: argparse._ActionsContainer) -> None:
    """On which machines the workers are."""
    parser.add_argument(
        "--cluster", type=values.cluster, metavar="ADDRESS", help="on Ray: local, auto, HOST:PORT or ray://HOST:PORT"
    )


def add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("documents", nargs="+", metavar="JSON", help="results, as --json wrote them")
    parser.add_argument(
        "--to", default="triptych-results", metavar="PATH", help="a folder, or FILE.zip (default: triptych-results)"
    )


def add_cost(parser: argparse.ArgumentParser) -> None:
    """Which block at which prices."""
    parser.add_argument("documents", nargs="*", metavar="JSON", help="results whose times are priced too")
    parser.add_argument("--model", default="llama-3.1-8b", metavar="M", help="(default: llama-3.1-8b)")
    parser.add_argument("--target", dest="targets", **LIST, metavar="T,...", help="chips to predict (default: all)")
    parser.add_argument(
        "--rows", type=values.counts, metavar="N,...", help="tokens of a kernel at once (default: 1,8,32,128,512,2048)"
    )
    parser.add_argument(
        "--whole", action="store_true", help="also predict whole blocks, attention and norms among them (minutes)"
    )
    parser.add_argument(
        "--kind",
        choices=("on-demand", "reserved", "spot", "capacity-block", "ownership"),
        default="on-demand",
        help="of the prices; the lowest of each chip counts (default: on-demand)",
    )
    parser.add_argument(
        "--price",
        dest="prices",
        action="append",
        default=[],
        metavar="CHIP=USD",
        help="an hour of one chip, as H200=2.5",
    )
    parser.add_argument("--data", metavar="FILE", help="chips, prices and published rates in place of ours (TOML)")
    group = parser.add_argument_group("output")
    group.add_argument("--json", metavar="PATH", help="every point, as one document (- is stdout)")
    group.add_argument("--md", metavar="PATH", help="the tables in Markdown (- is stdout)")
    group.add_argument("--html", metavar="PATH", help="a page with the curve")


def add_kernel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("op", metavar="OP", help="an op of ours, as `triptych list` shows them")
    parser.add_argument(
        "--target", default="trn2", metavar="T", help="the chip: NKI for Neuron, Triton for a GPU (default: trn2)"
    )
    parser.add_argument("-o", dest="to", metavar="FILE", help="a file that is to be made (default: stdout)")
    parser.add_argument(
        "--folder", metavar="DIR", help="a folder that is to be made, with both kernels, for Hugging Face's `kernels`"
    )
    parser.add_argument("--verify", metavar="PATH", help="check the kernels of this file or folder, and write nothing")


def add_lint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH[:FUNCTION]", help="a file's kernels, or one function of it")
    parser.add_argument("--target", dest="targets", **LIST, metavar="T,...", help="also report what these chips lack")
    add_nki(parser)
    parser.add_argument(
        "--json", metavar="PATH", help="the findings, as one document (- is stdout, and nothing else is)"
    )


def add_validate_timing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="clones of aws-neuron-sdk, nki-library, nki-autotune (default: none)",
    )
    add_jobs(parser)
    add_cluster(parser)
    parser.add_argument("--json", metavar="PATH", help="everything, as one document (- is stdout)")
    parser.add_argument("--md", metavar="PATH", help="a Markdown table with sources (- is stdout)")


def add_verify_device(parser: argparse.ArgumentParser) -> None:
    """Which of the collection to run beside the probes, and the file of it all."""
    parser.add_argument("ops", nargs="*", metavar="OP", help="ops of the collection or globs (default: all)")
    parser.add_argument(
        "--file",
        default="triptych-device.json",
        metavar="PATH",
        help="where all results go as they come (default: triptych-device.json)",
    )
    parser.add_argument("--cases", dest="sets", **LIST, metavar="SET,...", help=f"{CASE_SETS} (default: smoke)")
    parser.add_argument("--dtype", dest="dtypes", **LIST, metavar="D,...", help=f"{DTYPES} (default: the op's)")
    parser.add_argument("--probes", **LIST, metavar="OP,...", help="these probes alone (default: all)")
    parser.add_argument("--probes-only", action="store_true", help="leave the collection out")
    parser.add_argument(
        "--timeout", dest="timeout_s", type=values.seconds, default=600.0, metavar="T", help="per case (default: 10m)"
    )


def add_calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("document", metavar="FILE", help="what `triptych verify-device` wrote")
    parser.add_argument(
        "--write", metavar="PATH", help="the constants that were found, for `profile --set @PATH` (- is stdout)"
    )


def add_new(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="OP", nargs="?", help="a Python identifier, as row_softmax")
    parser.add_argument(
        "--from",
        dest="kernel",
        metavar="PATH:FUNCTION",
        help="declare a kernel that exists",
    )
