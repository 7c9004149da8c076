"""An op's kernels as a folder in the layout of Hugging Face's `kernels`, which loads them and knows nothing of us.

    README.md               what it is, its licence, at which cases it agreed, how to call it and how to check it again
    build/torch-neuron      a build variant: the NKI kernel, for PyTorch on a Neuron device
    build/torch-cuda        another one: the Triton kernel, and a function that makes the memory for its outputs
        __init__.py         the function, of the op's name
        kernel.py           our file, as `triptych kernel -o` writes it
        metadata.json       name, version, licence, what it needs, and the digest of the other files

The layout is that of docs/source/kernel-requirements.md in huggingface/kernels. Variants are Python alone, "noarch"
there, so that they carry no version of PyTorch or CUDA. The folder NAME/ that the page asks for within a variant is for
versions before 0.12, which know no such variants.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych import __version__
from triptych.harness import files
from triptych.harness.commands.sharing import allocating, single_file
from triptych.harness.commands.sharing.single_file import Wanted
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.cases import cases_of
from triptych.harness.results.result import Result
from triptych.harness.testing.results import Results

DEVICES = {"nki": "neuron", "triton": "cuda"}  # of a panel, as `kernels` and PyTorch call it
DEPENDS: Mapping[str, list[str]] = {"nki": ["nki"], "triton": []}  # beside PyTorch, which brings Triton
LICENSE = "apache-2.0"  # as Hugging Face writes it
VERSION = int(__version__.partition(".")[0])  # theirs is an integer, and 0 means: not for production yet

CARD = """\
---
library_name: kernels
license: {license}
---

# {title}

{op.summary}.{changed}

```python
from pathlib import Path

from kernels import get_local_kernel

{op.name} = get_local_kernel(Path(".")).{op.name}
```

From Triptych {version}, under the Apache License, Version 2.0. Each variant agrees with a reference in float64 at the
cases below, of which no device ran any; `triptych list {op.name}` explains their names.

{each}
Check all of it again:

```console
{command}
```
"""

EACH = """\
## {variant.device}

`{variant.signature}` in {place}, on {label}:

```
{cases}
```
"""


@dataclass(frozen=True)
class Variant:
    """A build variant: a kernel, the text of the module with the function that is called, and what that passed."""

    wanted: Wanted
    module: str
    passed: Sequence[Result]

    @property
    def device(self) -> str:
        """What it runs on, as PyTorch calls it."""
        return DEVICES[self.wanted.panel]

    @property
    def signature(self) -> str:
        """Its function with its parameters."""
        alone = self.wanted.panel == "nki"
        source, function = (self.wanted.source(), self.wanted.place[1]) if alone else (self.module, self.wanted.op.name)
        found = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == function)
        return f"{self.wanted.op.name}({ast.unparse(next(found).args)})"

    def files(self, command: str) -> dict[str, str]:
        """Its files by their paths; `command` is what checks it again."""
        name, kernel = self.wanted.op.name, single_file.text(self.wanted, self.passed, command)
        identifier = f"_{name}_{self.device}_{hashlib.sha256((self.module + kernel).encode()).hexdigest()[:7]}"
        found = {"__init__.py": f'"""{self.wanted.op.summary}"""\n\n{self.module}', "kernel.py": kernel}
        about = json.dumps(self.metadata(identifier, found), indent=2) + "\n"
        return {f"{place(self.wanted)}/{path}": text for path, text in {**found, "metadata.json": about}.items()}

    def metadata(self, identifier: str, others: Mapping[str, str]) -> dict[str, Any]:
        """What `kernels` reads of it before it loads it; `others` are its other files."""
        digests = {path: hashlib.sha256(text.encode()).digest() for path, text in sorted(others.items())}
        return {
            "name": hub_name(self.wanted),
            "id": identifier,
            "version": VERSION,
            "license": LICENSE,
            "python-depends": DEPENDS[self.wanted.panel],
            "backend": {"type": self.device},
            "digest": {
                "algorithm": "sha256",
                "files": {path: base64.b64encode(digest).decode() for path, digest in digests.items()},
            },
        }


def hub_name(wanted: Wanted) -> str:
    """What the op is called there, where a name has no underscores."""
    return wanted.op.name.replace("_", "-")


def place(wanted: Wanted) -> str:
    """The path of a kernel's build variant in the folder."""
    return f"build/torch-{DEVICES[wanted.panel]}"


def written(wanted: Wanted, folder: Path) -> Wanted:
    """The kernel that a folder has of an op, as whoever loads it calls it."""
    if wanted.panel == "triton":  # the function around the launcher
        return wanted.at(folder / place(wanted) / "__init__.py", wanted.op.name)
    return wanted.at(folder / place(wanted) / "kernel.py")


def module(wanted: Wanted) -> str:
    """The text of the module beside `kernel.py` with a function of the op's name. UsageError if there can be none."""
    if wanted.panel == "triton":
        cases = cases_of(wanted.op, single_file.SETS, None, {}, 0)
        return allocating.function(wanted.op, [Problem.of(wanted.op, case) for case in cases])
    function, name = wanted.place[1], wanted.op.name
    renamed = function if function == name else f"{function} as {name}"
    return f"from .kernel import {renamed}\n\n__all__ = [{name!r}]\n"


def checked(wanted: Wanted, module: str) -> Results:
    """The cases of a kernel, called through the module."""
    with tempfile.TemporaryDirectory() as made:
        variant = Path(made, "written")
        found = {"__init__.py": module, "kernel.py": wanted.source()}
        files.write_folder(variant, {f"{place(wanted)}/{path}": text for path, text in found.items()})
        return single_file.checked(written(wanted, variant))


def folder(variants: Sequence[Variant], command: str) -> dict[str, str]:
    """Every file by its path; `command` checks all of them again."""
    found = {"README.md": card(variants, command)}
    for variant in variants:
        found |= variant.files(command)
    return found


def card(variants: Sequence[Variant], command: str) -> str:
    """What the Hub shows of the folder."""
    op = variants[0].wanted.op
    return CARD.format(
        license=LICENSE,
        title=hub_name(variants[0].wanted),
        op=op,
        changed=f" It changes {' and '.join(op.mutates)} in place." if op.mutates else "",
        version=__version__,
        each="\n".join(
            EACH.format(
                variant=variant,
                place=place(variant.wanted),
                label=variant.passed[0].backend_label,
                cases="\n".join(single_file.cases(variant.passed)),
            )
            for variant in variants
        ),
        command=command,
    )
