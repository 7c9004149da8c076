"""`triptych`: the command line.

The parser knows nothing of NumPy, and a usage error is told before anything heavy is imported. What a command does is
in `commands`, `doctor`, `lint`, `new`, `profiling` and `validate_timing`; here are its words and its exit codes.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from triptych.harness.errors import UsageError, unknown
from triptych.harness.exit_codes import ExitCode
from triptych.harness.ops.selection import CASE_SETS, DTYPES

EXIT_CODES = """exit codes:
  0  every case that ran agrees
  1  a mismatch, an error or a timeout
  2  usage
  5  no kernel ran
  6  a required backend is missing"""

PROFILE_EXIT_CODES = """exit codes:
  0  predicted
  1  a kernel failed
  2  usage
  5  nothing could be predicted: no NKI kernel, or none for the target"""

LINT_EXIT_CODES = """exit codes:
  0  no errors; there may be warnings
  1  an error
  2  usage: a file that is not there, is not Python, or holds no kernel"""

VALIDATE_EXIT_CODES = """exit codes:
  0  the report was made, whatever the errors
  2  usage: a path that is no checkout of a known repository"""


class Parser(argparse.ArgumentParser):
    """argparse, with errors that go through one door and no abbreviated options."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[:1].lower()}{message[1:].rstrip('.')}. See `{self.prog} --help`.")


def seconds(text: str) -> float:
    """A positive duration: `90`, `90s`, `1.5m` or `500ms`."""
    given = text
    for suffix, unit in (("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)):
        if text.endswith(suffix):
            text, scale = text[: -len(suffix)], unit
            break
    else:
        scale = 1.0
    try:
        value = float(text) * scale
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"wants a duration above zero, as 90, 500ms or 2m, got {given!r}")
    return value


LEAST = 2**28


def size(text: str) -> int:
    """A positive number of bytes: `8G`, `500M`."""
    number, unit = (text[:-1], text[-1:].upper()) if text[-1:].isalpha() else (text, "")
    try:
        value = int(float(number) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}[unit])
    except (KeyError, ValueError, OverflowError):
        value = 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"wants a size above zero, as 8G or 500M, got {text!r}")
    if value < LEAST:
        raise argparse.ArgumentTypeError(
            f"wants 256M at least, which a worker needs before it runs a kernel, got {text!r}"
        )
    return value


def tolerance(text: str) -> float:
    """A finite number, zero or above."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"wants a number that is zero or above, got {text!r}")
    return value


def budget(text: str) -> float:
    """A factor above zero: `3` or `3x`."""
    value = tolerance(text.removesuffix("x"))
    if value == 0:
        raise argparse.ArgumentTypeError(f"wants a factor above zero, as 3 or 3x, got {text!r}")
    return value


def seed(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"wants a whole number that is zero or above, got {text!r}")
    return value


def add_selection(parser: Parser, cases: str) -> None:
    """What to run on what."""
    group = parser.add_argument_group("what to run")
    group.add_argument("ops", nargs="*", metavar="OP", help="ops or globs, as matmul or 'mat*' (default: all)")
    group.add_argument("--kernel", metavar="PATH", help="take the ops of your own file instead (see `triptych new`)")
    group.add_argument("--backend", action="append", metavar="B,...", help="default: all, those not here are skipped")
    group.add_argument("--target", action="append", metavar="T,...", help="chips to simulate (default: trn2)")
    group.add_argument("--dtype", action="append", metavar="D,...", help=f"{', '.join(DTYPES)} (default: the op's)")
    group.add_argument("--cases", action="append", metavar="SET,...", help=f"{', '.join(CASE_SETS)} (default: {cases})")
    group.add_argument("-k", dest="names", metavar="CASE", help="only cases of this name or glob")
    group.add_argument(
        "--case", dest="written", action="append", metavar="AXIS=V,...", help="a case of your own, as M=3,K=5,N=7"
    )
    group.add_argument("-a", dest="axes", action="append", metavar="AXIS=V,...", help="sizes, as -a M=256,1024")
    group.add_argument("--seed", type=seed, default=0, metavar="N", help="of the inputs (default: 0)")
    parser.set_defaults(default_cases=cases)


def add_judgement(parser: Parser, bench: bool) -> None:
    """How to run and to judge."""
    group = parser.add_argument_group("how to judge")
    group.add_argument("--rtol", type=tolerance, metavar="X", help="judge by |out - ref| <= atol + rtol |ref| instead")
    group.add_argument("--atol", type=tolerance, metavar="X", help="(default: twice an honest kernel's error)")
    group.add_argument(
        "--budget", type=budget, metavar="X", help="allow X times an honest kernel's error (default: 2x)"
    )
    group.add_argument(
        "--timeout", type=seconds, default=120.0, metavar="T", help="per case, as 90 or 2m (default: 2m)"
    )
    group.add_argument(
        "--memory", type=size, metavar="N", help="per worker, as 8G or 500M (default: 80%% of what is free)"
    )
    group.add_argument("--require", action="append", metavar="B,...", help="exit 6 unless these backends ran")
    group.add_argument("--strict", action="store_true", help="a skipped or unsupported case is a failure too")
    group.add_argument("-x", dest="stop", action="store_true", help="stop at the first case that does not pass")
    if bench:
        group.add_argument("--no-check", action="store_true", help="time kernels whether or not they are right")


def add_output(parser: Parser, html: str | None) -> None:
    """Where results go."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", metavar="PATH", help="everything, as one document (- is stdout, and nothing else is)")
    group.add_argument(
        "--resume", metavar="PATH", help="keep results in this file as they come, and run only what it does not hold"
    )
    group.add_argument("--csv", metavar="PATH", help="one row a result (- is stdout)")
    group.add_argument("--md", metavar="PATH", help="a Markdown table (- is stdout)")
    group.add_argument(
        "--html", metavar="PATH", default=html, help="a report" + (f" (default: {html})" if html else "")
    )
    group.add_argument(
        "-q", "--quiet", action="store_true", help="no progress and no table: problems and the last line"
    )


def add_profile(parser: Parser) -> None:
    """What to predict, and where the prediction goes."""
    group = parser.add_argument_group("what to predict")
    group.add_argument("ops", nargs="*", metavar="OP", help="ops or globs (default: all)")
    group.add_argument("--kernel", metavar="PATH[:F]", help="the ops of your own file; with :F, its function F")
    group.add_argument(
        "--arg", dest="args", action="append", metavar="A", help="argument of F: 4096x128:bfloat16, 0.5, causal=True"
    )
    group.add_argument("--target", action="append", metavar="T,...", help="chips, side by side (default: trn2)")
    group.add_argument("--dtype", action="append", metavar="D,...", help="(default: bfloat16, or the op's first)")
    group.add_argument("--cases", action="append", metavar="SET,...", help="(default: model; smoke with -a)")
    group.add_argument("-k", dest="names", metavar="CASE", help="only cases of this name or glob")
    group.add_argument("-a", dest="axes", action="append", metavar="AXIS=V,...", help="sizes, as -a M=256,1024")
    group.add_argument("--seed", type=seed, default=0, metavar="N", help="of inputs, where data matters (default: 0)")
    group = parser.add_argument_group("how to predict")
    group.add_argument(
        "--order",
        choices=("overlapped", "program", "both"),
        default="overlapped",
        help="what a compiler's scheduler would overlap, or queues as they are written (default: overlapped)",
    )
    group.add_argument(
        "--set", dest="settings", action="append", metavar="FIELD=X", help="what if the chip had X, as dma_gb_per_s=800"
    )
    group.add_argument(
        "--no-data", action="store_true", help="never draw inputs: a kernel whose control flow depends on data fails"
    )
    group = parser.add_argument_group("output")
    group.add_argument("--trace", metavar="FILE", help="the timeline for ui.perfetto.dev (.gz compresses)")
    group.add_argument("--html", metavar="FILE", help="a page with the timeline and memory over time")
    group.add_argument("--json", metavar="PATH", help="everything, as one document (- is stdout, and nothing else is)")


def parsers() -> tuple[Parser, dict[str, Parser]]:
    """The parser of `triptych` and those of its commands."""
    root = Parser(
        prog="triptych",
        description="One operation, three panels: a NumPy reference, an NKI kernel for Trainium and Inferentia and a "
        "Triton kernel for GPUs. Proves that they agree and says how fast each is.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    root.add_argument("--version", action="store_true", help="print the version")
    commands = root.add_subparsers(dest="command", metavar="COMMAND")
    made: dict[str, Parser] = {}

    def command(name: str, help: str, epilog: str = EXIT_CODES) -> Parser:
        made[name] = commands.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        return made[name]

    command("doctor", "say which backends are here, why the others are not, and what to trust")
    listing = command("list", "list the ops; with OP, their cases")
    listing.add_argument("ops", nargs="*", metavar="OP", help="ops or globs")
    listing.add_argument("--kernel", metavar="PATH", help="the ops of your own file")
    listing.add_argument("--json", metavar="PATH", help="as one document (- is stdout)")
    check = command("check", "compare every kernel with the reference")
    add_selection(check, "smoke")
    check.add_argument(
        "--fuzz", type=seconds, metavar="T", help="search for a failing case this long, as 60 or 5m, and shrink it"
    )
    add_judgement(check, bench=False)
    add_output(check, html=None)
    bench = command("bench", "check, then time what is right")
    add_selection(bench, "model")
    add_judgement(bench, bench=True)
    add_output(bench, html=None)
    run = command("run", "check, then bench, then write a report")
    add_selection(run, "smoke")
    add_judgement(run, bench=True)
    add_output(run, html="report.html")
    report = command("report", "run every op on every backend of this machine and write a report")
    add_selection(report, "smoke,model")
    report.add_argument("--from", dest="saved", nargs="+", metavar="JSON", help="render saved results, run nothing")
    add_judgement(report, bench=True)
    add_output(report, html="report.html")
    add_profile(command("profile", "predict how long a kernel takes on the chip, and why", PROFILE_EXIT_CODES))
    lint = command("lint", "find what NKI's compiler rejects, without running anything", LINT_EXIT_CODES)
    lint.add_argument("paths", nargs="+", metavar="PATH[:FUNCTION]", help="a file's kernels, or one function of it")
    lint.add_argument("--target", action="append", metavar="T,...", help="also report what these chips lack")
    lint.add_argument("--json", metavar="PATH", help="the findings, as one document (- is stdout, and nothing else is)")
    validate = command("validate-timing", "print predicted times against measured ones", VALIDATE_EXIT_CODES)
    validate.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="clones of aws-neuron-sdk, nki-library, nki-autotune (default: none)",
    )
    validate.add_argument("--json", metavar="PATH", help="everything, as one document (- is stdout)")
    validate.add_argument("--md", metavar="PATH", help="a Markdown table with sources (- is stdout)")
    new = command("new", "write OP.py, a complete kernel file of your own that passes as written")
    new.add_argument("name", metavar="OP", help="a Python identifier, as row_softmax")
    return root, made


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The words of a command; the first must name it. Options and ops may be mixed."""
    root, made = parsers()
    if not argv or argv[0].startswith("-"):
        known, rest = root.parse_known_args(argv)
        if rest:
            raise unknown("option", rest[0], options(root))
        return known
    name = argv[0]
    if name not in made:
        raise unknown("command", name, made)
    parser = made[name]
    known, rest = parser.parse_known_intermixed_args(argv[1:])
    if rest:
        if rest[0].startswith("-"):
            raise unknown("option", rest[0].partition("=")[0], options(parser))
        raise UsageError(f"{name} does not take {rest[0]!r}. See `triptych {name} --help`.")
    known.command = name
    return known


def options(parser: Parser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings]


def dispatch(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    if getattr(arguments, "version", False):
        from triptych import __version__

        print(f"triptych {__version__}")
        return ExitCode.OK
    if arguments.command is None:
        parsers()[0].print_help()
        return ExitCode.OK
    if arguments.command == "doctor":
        from triptych.harness.commands.doctor import doctor

        return doctor()
    if arguments.command == "new":
        from triptych.harness.commands.new import new

        return new(arguments.name)
    if arguments.command == "validate-timing":
        from triptych.harness.commands import validate_timing

        return validate_timing.run(arguments)
    if arguments.command == "lint":
        from triptych.harness.commands import lint

        return lint.run(arguments)
    if arguments.command == "profile":
        from triptych.harness.commands import profile

        return profile.run(arguments, argv)
    from triptych.harness.commands import check

    if arguments.command == "list":
        return check.listing(arguments)
    if getattr(arguments, "saved", None):
        return check.rerender(arguments)
    if getattr(arguments, "fuzz", None):
        return check.fuzz(arguments, argv)
    return check.execute(arguments, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a job's end keeps what is finished, as Ctrl-C does
    try:
        code = dispatch(parse(words), words)
        sys.stdout.flush()
        return code
    except UsageError as error:
        print(f"triptych: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit as done:  # argparse, after --help
        return int(done.code or 0)
    except BrokenPipeError:  # the reader of a pipe, as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    except KeyboardInterrupt:
        print("triptych: interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
