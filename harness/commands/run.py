"""`triptych run`: check, then time what is right, then write a report; `run llama-block` is a block of a model."""

from __future__ import annotations

from argparse import Namespace

from triptych.harness.commands.arguments.outputs import Outputs
from triptych.harness.commands.runs.carry_out import carry_out, say
from triptych.harness.errors import UsageError, unknown
from triptych.harness.exit_codes import ExitCode
from triptych.harness.running.request import Request

BLOCK = "llama-block"
TAKEN = ("ops", "targets", "seed", "quiet", "default_sets", "timed", "timeout_s", "html")  # asked for, or always there


def run(arguments: Namespace) -> int:
    return block(arguments) if BLOCK in arguments.ops else carry_out(arguments)


def block(arguments: Namespace) -> int:
    """Compare a Llama block with its definition, predict it, and print both."""
    request, outputs = Request.from_arguments(arguments), Outputs.from_arguments(arguments)
    if len(request.ops) > 1:
        raise UsageError(f"{BLOCK} runs by itself; got {', '.join(request.ops)}.")
    asked = {**vars(request), **vars(outputs)}
    if any(value for name, value in asked.items() if name not in TAKEN):
        raise UsageError(
            f"`run {BLOCK}` takes --target, --seed and --quiet alone: our kernels in bfloat16, at the sizes of a model."
        )

    from triptych.harness.blocks.page import text
    from triptych.harness.blocks.study import Sizes, study
    from triptych.harness.collection.llama import MODELS
    from triptych.simulator import TARGETS

    targets = request.targets or ("trn2",)
    for target in targets:
        if target not in TARGETS:
            raise unknown("target", target, TARGETS)
    right = True
    for target in targets:
        phases = study(MODELS[0], target, Sizes(), request.seed, say if not outputs.quiet else lambda line: None)
        print(text(MODELS[0], target, phases), end="")
        right = right and all(one.holds for phase in phases for one in phase.agreements)
    return ExitCode.OK if right else ExitCode.MISMATCH
