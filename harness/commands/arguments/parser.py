"""The table of commands, and the parser that follows from it.

It knows nothing of NumPy: a usage error is told before anything heavy is imported. A command is a row here and a file
beside this one, whose function `run` takes the parsed arguments and returns the exit code.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from triptych import __version__
from triptych.harness.commands.arguments import options
from triptych.harness.errors import UsageError, unknown

FILE = re.compile(r"(.+\.py)(:\w+)?")  # of a user, with the name of a function

DESCRIPTION = (
    "One operation, three panels: a NumPy reference, an NKI kernel for Trainium and Inferentia and a Triton kernel for "
    "GPUs. Proves that they agree and says how fast each is."
)

EXIT_CODES = """exit codes:
  0  every case that ran agrees
  1  a mismatch, an error or a timeout
  2  usage
  5  no kernel ran
  6  a required backend is missing"""

COMPARE_EXIT_CODES = """exit codes:
  0  nothing is wrong, and nothing slower than --fail-on allows
  1  a case is wrong now that was not
  2  usage
  3  a case is slower than --fail-on allows
  4  a case that had a time has none now; with --strict, also one whose interval reaches below the limit
  5  nothing could be compared
  6  a required backend is missing"""

TUNE_EXIT_CODES = """exit codes:
  0  every setting was tried; what is chosen agrees
  1  no setting is left: each was refused or is wrong
  2  usage: no file with KNOBS among what is selected"""

PROFILE_EXIT_CODES = """exit codes:
  0  predicted
  1  a kernel failed
  2  usage
  5  nothing could be predicted: no NKI kernel, or none for the target"""

LINT_EXIT_CODES = """exit codes:
  0  no errors; there may be warnings
  1  an error
  2  usage: a file that is not there, is not Python, or holds no kernel"""

COMPILE_EXIT_CODES = """exit codes:
  0  every kernel compiles, fits its GPU and uses its matrix unit
  1  one does not, or spills many registers
  2  usage
  5  nothing was compiled: no op with a Triton kernel"""

CALIBRATE_EXIT_CODES = """exit codes:
  0  the constants were fitted, however well
  2  usage: a file that holds no probe that a device timed"""

VALIDATE_EXIT_CODES = """exit codes:
  0  the report was made, whatever the errors
  2  usage: a path that is no checkout of a known repository"""


@dataclass(frozen=True)
class Command:
    """A row of the table: what `--help` says of a command and which options it takes."""

    name: str
    help: str
    add_options: options.Options = options.no_options
    exit_codes: str = EXIT_CODES
    folder: str = ""  # of its file, below this room; as a rule none

    @property
    def run(self) -> str:
        """Where its function is, as "module:function"."""
        file = ".".join(filter(None, (self.folder, self.name.replace("-", "_"))))
        return f"triptych.harness.commands.{file}:run"


COMMANDS = (
    Command("doctor", "say which backends are here, why the others are not, and what to trust"),
    Command("list", "list the ops; with OP, their cases", options.add_list),
    Command("check", "compare every kernel with the reference", options.add_check),
    Command("bench", "check, then time what is right", options.add_bench),
    Command("run", "check, then bench, then write a report; or `run llama-block`, a block of a model", options.add_run),
    Command("report", "run every op on every backend of this machine and write a report", options.add_report),
    Command(
        "compare",
        "say what is faster and what is slower, how surely, and why",
        options.add_compare,
        COMPARE_EXIT_CODES,
    ),
    Command(
        "profile",
        "predict how long a kernel takes on the chip, and why",
        options.add_profile,
        PROFILE_EXIT_CODES,
        folder="nki",
    ),
    Command(
        "compile",
        "build Triton kernels for GPUs that are not here, and say what each costs",
        options.add_compile,
        COMPILE_EXIT_CODES,
        folder="gpu",
    ),
    Command(
        "tune", "find the setting of a kernel's knobs that is fastest and right", options.add_tune, TUNE_EXIT_CODES
    ),
    Command("cost", "say what a block of a model costs on each chip, and when the verdict turns", options.add_cost),
    Command("export", "write saved results as a folder or zip: page, tables, pictures", options.add_export),
    Command(
        "kernel", "write kernels of ours as files that run without this project", options.add_kernel, folder="sharing"
    ),
    Command("schema", "print the JSON schema of the documents that --json writes"),
    Command(
        "lint",
        "find what NKI's compiler rejects, without running anything",
        options.add_lint,
        LINT_EXIT_CODES,
        folder="nki",
    ),
    Command(
        "validate-timing",
        "print predicted times against measured ones",
        options.add_validate_timing,
        VALIDATE_EXIT_CODES,
        folder="nki",
    ),
    Command(
        "verify-device",
        "run the collection and probes on this machine's Neuron device, and say how right the simulator is",
        options.add_verify_device,
        folder="nki",
    ),
    Command(
        "calibrate",
        "find constants of the chip that fit what verify-device measured",
        options.add_calibrate,
        CALIBRATE_EXIT_CODES,
        folder="nki",
    ),
    Command("new", "write OP.py, a complete kernel file of your own, or declare one that exists", options.add_new),
)


class Parser(argparse.ArgumentParser):
    """argparse, with errors that go through one door, no abbreviated options, and options between the ops."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[:1].lower()}{message[1:].rstrip('.')}. See `{self.prog} --help`.")

    def options(self) -> list[str]:
        return [option for action in self._actions for option in action.option_strings]


class CommandParser(Parser):
    """The parser of one command, in which ops and options may be mixed."""

    mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """What the parser of all commands calls; before Python 3.12 the mixing parse calls it as well."""
        if self.mixing:
            return super().parse_known_args(args, namespace)
        self.mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.mixing = False


def parsers() -> tuple[Parser, dict[str, CommandParser]]:
    """The parser of `triptych`, and those of its commands by name."""
    root = Parser(prog="triptych", description=DESCRIPTION, epilog=EXIT_CODES)
    root.add_argument("--version", action="version", version=f"triptych {__version__}", help="print the version")
    subparsers = root.add_subparsers(dest="command", metavar="COMMAND", parser_class=CommandParser)
    made = {}
    for command in COMMANDS:
        description = f"{command.help[0].upper()}{command.help[1:]}."
        parser = subparsers.add_parser(
            command.name, help=command.help, description=description, epilog=command.exit_codes
        )
        command.add_options(parser)
        parser.set_defaults(run=command.run)
        made[command.name] = parser
    return root, made


def with_files(arguments: argparse.Namespace) -> argparse.Namespace:
    """The arguments with what stands among the ops and ends in .py, or .py:FUNCTION, among the files of `--kernel`."""
    if "sources" in arguments and "ops" in arguments:
        named = [word for word in arguments.ops if FILE.fullmatch(word)]
        for word in named:
            path = FILE.fullmatch(word)[1]  # type: ignore[index]  # it has matched
            if not os.path.isfile(path):
                raise UsageError(
                    f"{path} is not a file; an op has no .py in its name, and `triptych new` writes a file."
                )
        arguments.sources = [*arguments.sources, *named]
        arguments.ops = [word for word in arguments.ops if word not in named]
    return arguments


def parse(argv: Sequence[str], **given: Any) -> argparse.Namespace:
    """The arguments of a command line, itself as `argv`, and what is `given` beside it; no words ask for help."""
    argv = argv or ["--help"]
    root, commands = parsers()
    if not argv[0].startswith("-") and argv[0] not in commands:
        raise unknown("command", argv[0], commands)
    arguments, rest = root.parse_known_args(argv, argparse.Namespace(argv=argv, **given))
    if not rest:
        return with_files(arguments)
    parser = commands.get(arguments.command, root)
    if rest[0].startswith("-"):
        raise unknown("option", rest[0].partition("=")[0], parser.options())
    raise UsageError(f"{arguments.command} does not take {rest[0]!r}. See `{parser.prog} --help`.")
