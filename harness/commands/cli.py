"""`triptych`: one command line in, one exit code out."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from triptych.harness import files, one_thread
from triptych.harness.commands.arguments.parser import parse
from triptych.harness.errors import RequiredMissing, UsageError
from triptych.harness.exit_codes import ExitCode
from triptych.harness.nki_versions import VARIABLE

if TYPE_CHECKING:
    from triptych.harness.running.session import Session


def main(argv: Sequence[str] | None = None, session: Session | None = None) -> int:
    """Run one command and return its exit code; `session` carries out what is to be run, if not an ordinary one."""
    words = list(sys.argv[1:] if argv is None else argv)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a job's end keeps what is finished, as Ctrl-C does
    if argv is None:  # this process is ours alone
        one_thread.take_over()
    try:
        arguments = parse(words, session=session)
        module, _, function = arguments.run.partition(":")
        with document_alone(arguments, ends_process=argv is None), nki_version(arguments):
            code: int = getattr(importlib.import_module(module), function)(arguments)
            sys.stdout.flush()
        return code
    except (UsageError, RequiredMissing) as error:
        print(f"triptych: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit as done:  # argparse, after --help
        return int(done.code or 0)
    except BrokenPipeError:  # the reader of a pipe, as `head`, has seen enough
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    except KeyboardInterrupt:
        print("triptych: interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED


@contextlib.contextmanager
def nki_version(arguments: Namespace) -> Iterator[None]:
    """Runs a command with the version of NKI that it was given, in its workers too."""
    asked = getattr(arguments, "nki", None)
    before = os.environ.get(VARIABLE)
    try:
        if asked:
            os.environ[VARIABLE] = asked
        yield
    finally:
        if asked and before is None:
            del os.environ[VARIABLE]
        elif asked and before is not None:
            os.environ[VARIABLE] = before


def document_alone(arguments: Namespace, ends_process: bool) -> AbstractContextManager[None]:
    """Keeps standard output for the document that one of a command's options wants there, whatever is printed."""
    if "-" in (getattr(arguments, option, None) for option in ("json", "csv", "md", "html", "trace")):
        return files.stdout_for_a_document(ends_process)
    return contextlib.nullcontext()
