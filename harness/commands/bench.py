"""`triptych bench`: check, then time what is right."""

from __future__ import annotations

from argparse import Namespace

from triptych.harness.commands.comparison import compare


def run(arguments: Namespace) -> int:
    return compare(arguments)
