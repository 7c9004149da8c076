"""`triptych kernel OP`: kernels of ours for those who do not have this project, checked before they are written."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from triptych.harness import files
from triptych.harness.backends import BACKENDS
from triptych.harness.collection import builtin
from triptych.harness.commands.sharing import hub_folder, single_file
from triptych.harness.commands.sharing.hub_folder import Variant
from triptych.harness.commands.sharing.single_file import Wanted
from triptych.harness.emulators import version_support
from triptych.harness.errors import UsageError, unknown
from triptych.harness.exit_codes import ExitCode
from triptych.harness.testing.results import Results

GPUS = ("sm_80", "sm_90", "sm_100", "gfx942")  # of `emulators.devices`, which imports Triton


def run(arguments: Namespace) -> int:
    """Check and write a file, or a folder with --folder; with --verify check what was written and write nothing."""
    asked = [option for option in ("to", "folder", "verify") if getattr(arguments, option)]
    if len(asked) > 1:
        raise UsageError("-o, --folder and --verify ask for different things; give one of them.")
    if arguments.folder:
        return write_folder(of_both(arguments.op, arguments.target), arguments.folder)
    if arguments.verify and Path(arguments.verify).is_dir():
        return verify_folder(of_both(arguments.op, arguments.target), Path(arguments.verify))
    wanted = chosen(arguments.op, arguments.target)
    if arguments.verify:
        return verify(wanted, Path(arguments.verify))
    return write_file(wanted, arguments.to)


def chosen(name: str, target: str) -> Wanted:
    """The op's kernel for a chip. UsageError if there is no such op, chip or kernel."""
    ops = builtin()
    if name not in ops:
        raise unknown("op", name, ops)
    neuron = BACKENDS["nki-sim"].targets
    if target not in (*neuron, *GPUS):
        raise unknown("target", target, (*neuron, *GPUS))
    panel = "triton" if target in GPUS else "nki"
    if getattr(ops[name], panel) is None:
        raise UsageError(f"{name} has no {'Triton' if panel == 'triton' else 'NKI'} kernel, which {target} needs.")
    if panel == "triton" and version_support() is not None:
        raise UsageError(f"the kernel cannot be checked here: {version_support()}.")
    return Wanted(ops[name], panel, target)


def of_both(name: str, target: str) -> list[Wanted]:
    """The op's kernels for a Neuron chip and for GPUs, as many of them as there are. UsageError as `chosen` says."""
    if target in GPUS:
        raise UsageError("a folder holds the kernels for Neuron and for GPUs; --target names the Neuron chip.")
    op = builtin().get(name)
    return [chosen(name, chip) for chip in (target, GPUS[0]) if chip == target or op is None or op.triton is not None]


def write_file(wanted: Wanted, to: str | None) -> int:
    """Check the kernel, and write it as one file or print it."""
    wanted.source()  # before minutes of checking
    target = files.to_be_made(to, "-o names a file") if to else None
    results = single_file.checked(wanted)
    if not results.ok:
        return disagreement(results)
    command = f"triptych kernel {wanted.op.name} --target {wanted.target} --verify {target.name if target else 'FILE'}"
    text = single_file.text(wanted, results.passed, command)
    if target is None:
        print(text, end="")
        return ExitCode.OK
    files.write(str(target), text)
    print(f"{target}: {wanted.op.name} for {wanted.target}, {len(results.passed)} cases agree")
    print(f"\n    {command}")
    return ExitCode.OK


def write_folder(kernels: list[Wanted], to: str) -> int:
    """Check the kernels, and write a folder with a build variant of each that PyTorch can call."""
    target = files.to_be_made(to, "--folder names a folder")
    op, variants, lacking = kernels[0].op, [], []
    for wanted in kernels:
        try:
            module = hub_folder.module(wanted)
        except UsageError as error:
            lacking.append(f"{target}/{hub_folder.place(wanted)} is left out: {error}")
            continue
        results = hub_folder.checked(wanted, module)
        if not results.ok:
            return disagreement(results)
        variants.append(Variant(wanted, module, results.passed))
    command = f"triptych kernel {op.name} --target {kernels[0].target} --verify {target.name}"
    files.write_folder(target, hub_folder.folder(variants, command))
    for variant in variants:
        place, label = hub_folder.place(variant.wanted), variant.passed[0].backend_label
        print(f"{target}/{place}: {variant.signature}, {len(variant.passed)} cases agree on {label}")
    print(*lacking, "", f"    {command}", sep="\n")
    return ExitCode.OK


def disagreement(results: Results) -> int:
    """Say that a kernel is wrong."""
    print(results, file=sys.stderr)
    print("triptych: nothing was written: the kernel does not agree", file=sys.stderr)
    return ExitCode.MISMATCH


def verify(wanted: Wanted, path: Path) -> int:
    """Check the kernel of the same name that stands in a file."""
    if not path.is_file():
        raise UsageError(f"{path} is not there; --verify names a file or folder that `triptych kernel` has written.")
    results = single_file.checked(wanted.at(path))
    print(results)
    return ExitCode.OK if results.ok else ExitCode.MISMATCH


def verify_folder(kernels: list[Wanted], path: Path) -> int:
    """Check each build variant that a folder has of the kernels."""
    there = [wanted for wanted in kernels if (path / hub_folder.place(wanted)).is_dir()]
    if not there:
        places = " or ".join(hub_folder.place(wanted) for wanted in kernels)
        raise UsageError(
            f"{path} has no {places}; --verify names a folder that `triptych kernel --folder` has written."
        )
    each = [single_file.checked(hub_folder.written(wanted, path)) for wanted in there]
    print(*each, sep="\n")
    return ExitCode.OK if all(results.ok for results in each) else ExitCode.MISMATCH
