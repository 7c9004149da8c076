"""The linter: what the compiler of NKI rejects though plain Python accepts it, found without running anything.

It reads source text and the tables of `api`; `launch` warns of what it finds in a kernel that runs (`LintWarning`).

    from triptych.simulator import lint
    for finding in lint.lint_file("kernel.py"):
        print(finding)
"""

from triptych.simulator.lint import chip, classes, interface, loops, names, purity, syntax, tensors  # noqa: F401
from triptych.simulator.lint.files import LintError, lint_file
from triptych.simulator.lint.rules import ERROR, RULES, WARNING, Finding

__all__ = ["ERROR", "RULES", "WARNING", "Finding", "LintError", "lint_file"]
