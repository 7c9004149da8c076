"""`triptych run`: check, then time what is right, then write a report."""

from __future__ import annotations

from argparse import Namespace

from triptych.harness.commands.runs.carry_out import carry_out


def run(arguments: Namespace) -> int:
    return carry_out(arguments)
