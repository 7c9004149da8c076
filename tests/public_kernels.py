"""Run AWS's public kernels, unmodified, on the simulator, and say which agree.

    python tests/public_kernels.py PATH [--only WORDS]
    python tests/public_kernels.py PATH --fast RESULTS [--target trn3]

PATH is a checkout of one of these; the script sees which:

    aws-neuron/aws-neuron-sdk       the documentation: tutorials, deep dives and the kernels in its pages
    aws-neuron/nki-library          at tag 2.29, with its folder test/; needs PyTorch and SciPy
    awslabs/nki-autotune            its hand-written kernels

With --fast, of nki-library: all of its tests that are marked so (aws/nki_library_suite.py), which takes hours.

Each line of the table is a kernel with one set of inputs: how far the result lies from the reference that AWS keeps
beside it, and whether AWS's own criterion holds. What a kernel does against the documentation is reported, and the
case run again with that one leniency. Exit status 1 if a case that is expected to agree does not. None of AWS's code is
part of this project: kernels and references are imported from PATH.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from aws import nki_autotune, nki_library, nki_library_suite, sdk
from aws.table import attempt, show

from triptych.simulator.launch.import_hook import simulated_nki

REPOSITORIES = (nki_library, nki_autotune, sdk)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table of the checkout at PATH."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s PATH [--only WORDS | --fast RESULTS [--target TARGET]]",
    )
    parser.add_argument("path", type=Path, help="a checkout of one of the repositories above")
    parser.add_argument("--only", default="", help="run the cases whose kernel or label has these words")
    parser.add_argument("--fast", type=Path, metavar="RESULTS", help="run all tests marked fast that this file lacks")
    parser.add_argument("--target", choices=nki_library_suite.TARGETS, default="trn2", help="of --fast (trn2)")
    options = parser.parse_args(argv)
    repository = next((r for r in REPOSITORIES if r.recognises(options.path)), None)
    if repository is None:
        parser.error(f"{options.path} is none of the checkouts that this script knows; see --help")
    warnings.simplefilter("ignore")  # AWS's, and what the linter says of their kernels
    with simulated_nki():
        if options.fast is not None:
            if repository is not nki_library:
                parser.error(f"--fast is of nki-library, and {options.path} is not it")
            return nki_library_suite.show(options.path.resolve(), options.fast, options.target)
        chosen = (c for c in repository.cases(options.path.resolve()) if options.only in f"{c.kernel} {c.label}")
        return show(attempt(case) for case in chosen)


if __name__ == "__main__":
    sys.exit(main())
