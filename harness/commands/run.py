"""`triptych run`: check, then time what is right, then write a report."""

from __future__ import annotations

from argparse import Namespace

from triptych.harness.commands.comparison import compare


def run(arguments: Namespace) -> int:
    return compare(arguments)
