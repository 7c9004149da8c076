"""Who may import whom, and what importing the package may cost.

reference imports NumPy alone; kernels their own language and NumPy; the simulator nothing of ours; the harness all.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "reference": {"numpy"},
    "kernels/nki": {"nki", "numpy"},
    "kernels/triton": {"triton", "numpy"},
    "simulator": {"numpy", "ml_dtypes", "triptych.simulator"},
}
LENT = {  # what is imported for a user's `import torch_neuronx` alone
    "simulator/launch/neuron_device.py": {"torch"},
    "simulator/launch/nki_ops.py": {"torch"},
}


def imported(file: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == "triptych" else (module,)


def files(room: str) -> list[Path]:
    found = sorted((ROOT / room).rglob("*.py"))
    assert found, room
    return found


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    for file in files(room):
        for module in imported(file):
            top = module.partition(".")[0]
            if top in sys.stdlib_module_names:
                continue
            allowed = ALLOWED[room] | LENT.get(str(file.relative_to(ROOT)), set())
            assert any(module == ok or module.startswith(ok + ".") for ok in allowed), f"{file} imports {module}"


def test_only_the_harness_imports_across_rooms() -> None:
    for room in ("reference", "kernels", "simulator"):
        for file in files(room):
            for module in imported(file):
                assert not module.startswith("triptych.") or module.startswith(f"triptych.{room}"), (
                    f"{file} imports {module}"
                )


def test_no_module_takes_the_name_of_the_package_it_imports() -> None:
    for room in ("reference", "kernels", "simulator", "harness"):
        assert not [f for f in files(room) if f.name in ("triton.py", "nki.py", "numpy.py", "torch.py")]


def test_the_plain_folders_stay_namespaces() -> None:
    # A folder `kernels` with an __init__.py would hide the installed package of that name from the repository's root.
    assert not [room for room in ("kernels", "reference", "harness") if (ROOT / room / "__init__.py").exists()]


def test_the_links_are_relative() -> None:
    for room in ("kernels", "reference", "harness", "simulator"):
        link = ROOT / "src" / "triptych" / room
        assert link.is_symlink() and str(link.readlink()) == f"../../{room}"


def loaded_by(statement: str) -> set[str]:
    """Modules in sys.modules after a statement in a fresh interpreter."""
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); {statement}; print('\\n'.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_triptych_is_light() -> None:
    assert not loaded_by("import triptych") & {"numpy", "triton", "torch", "nki", "ml_dtypes"}


def test_the_command_line_imports_no_framework() -> None:
    assert not loaded_by("from triptych.harness.commands import cli") & {"triton", "torch", "jax"}
