"""The import hook behind `nki`, and the loader of kernel files.

`triptych.nki` is always the simulator's. `nki` is the simulator's only where importing it would otherwise fail, or
would reach the placeholder of this name on the public registry; likewise `neuronxcc.nki.typing`, with which some of
AWS's kernels annotate. `load` runs a kernel file against the simulator in a namespace of its own, even where AWS's nki
is installed, and leaves `sys.modules` as it was.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from triptych.simulator.api import modules
from triptych.simulator.launch.kernel import Kernel, jit, simulate, simulate_kernel

_one_at_a_time = threading.RLock()  # who loads modules against the simulator, as `sys.modules` is every thread's
_simulating: ContextVar[bool] = ContextVar("simulating", default=False)  # whether they are, whatever else is installed


class _Loader:
    """Fills a module of `nki` with the simulator's names; any other name says what replaced it."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        """None: a module like any other."""
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        from triptych.simulator.api import namespaces  # late: the simulator is imported without the language

        name = modules.documented(module.__name__)
        if name == "nki":
            module.__dict__.update(jit=jit, simulate=simulate, Kernel=Kernel)
        if name in modules.OPERATORS:
            module.__dict__.update(_operators(name))
        if name == "nki.simulator":  # as vLLM Neuron's CPU mode calls it; AWS documents no more of this module
            module.__dict__.update(simulate_kernel=simulate_kernel)
        module.__dict__.update(namespaces.contents(name))
        module.__doc__ = f"{name} of NKI, simulated by Triptych."
        module.__dict__["__triptych__"] = True

        def missing(attribute: str) -> Any:
            if f"{name}.{attribute}" in modules.SERVED:  # a submodule, which `import nki` alone gives too
                return importlib.import_module(f"{module.__name__}.{attribute}")
            if attribute.startswith("_"):  # what Python or a tool asks of every module, such as __wrapped__
                raise AttributeError(f"module {module.__name__!r} has no attribute {attribute!r}")
            if name in modules.OPERATORS:
                raise AttributeError(f"{name} is lent by triptych and has nki_op and wrap_nki alone, no {attribute}")
            raise AttributeError(namespaces.absence(f"{name}.{attribute}"))

        module.__dict__["__getattr__"] = missing
        parent, _, child = module.__name__.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


class Finder:
    """Finds `triptych.nki` in the simulator, and `nki` where no real one is."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.startswith(modules.OWN):
            if modules.documented(fullname) in modules.SIMULATED:
                return _spec(fullname)
            if fullname.startswith(f"{modules.OWN}nki."):
                raise _absent(fullname)
            return None
        top = fullname.partition(".")[0]
        if fullname == top:
            if top not in modules.TOPS:
                return None
            real = real_nki() if top == "nki" else importlib.machinery.PathFinder.find_spec(top)
            lent = real is None or (_simulating.get() and top in modules.SWAPPED)
            return _spec(fullname) if lent else None
        if not getattr(sys.modules.get(top), "__triptych__", False):
            return None
        if fullname in modules.SERVED:
            return _spec(fullname)
        if top == "neuronxcc":
            raise ModuleNotFoundError(
                f"{fullname} is not there: AWS's compiler is not installed, and a kernel's nki is "
                f"{modules.modern(fullname)} since NKI 0.2; nki/migration/index.rst says how to migrate",
                name=fullname,
            )
        raise _absent(fullname)


def _operators(name: str) -> dict[str, Any]:
    """What the modules of AWS's PyTorch are here. ImportError without PyTorch."""
    try:
        from triptych.simulator.launch import neuron_device, nki_ops
    except ImportError as error:
        raise ImportError(f"{name} needs PyTorch, and importing it failed: {error}") from None
    neuron_device.map_to_cpu()
    return {"nki_op": nki_ops.nki_op, "wrap_nki": nki_ops.wrap_nki}


def _absent(name: str) -> ModuleNotFoundError:
    """The error of `from nki import name` and `import nki.name`. Without its name, or Python would say less instead."""
    from triptych.simulator.api import namespaces  # late: the simulator is imported without the language

    return ModuleNotFoundError(namespaces.absence(modules.documented(name)))


def _spec(name: str) -> importlib.machinery.ModuleSpec:
    # A loader by its methods: importlib.abc, which has the class to inherit from, takes long to import.
    loader: Any = _Loader()  # every module is a package: of `from nki.isa import x` Python then asks the finder for x
    return importlib.machinery.ModuleSpec(name, loader, is_package=True)


def real_nki() -> importlib.machinery.ModuleSpec | None:
    """AWS's own nki, if it is installed; the placeholder of that name on the public registry does not count."""
    spec = importlib.machinery.PathFinder.find_spec("nki")
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    held = [name for place in places if os.path.isdir(place) for name in os.listdir(place)]
    return spec if any(name.partition(".")[0] == "isa" for name in held) else None


@contextmanager
def simulated_nki() -> Iterator[None]:
    """Inside, `import nki` means the simulator; afterwards `sys.modules` is as before."""
    with _one_at_a_time:
        token = _simulating.set(True)
        before = {n: sys.modules.pop(n) for n in list(sys.modules) if n.partition(".")[0] in modules.SWAPPED}
        try:
            for name in modules.SIMULATED:
                module = importlib.util.module_from_spec(_spec(name))
                sys.modules[name] = module
                _Loader().exec_module(module)
            yield
        finally:
            _simulating.reset(token)
            for n in [n for n in sys.modules if n.partition(".")[0] in modules.SWAPPED]:
                del sys.modules[n]
            sys.modules.update(before)


class FromSource(importlib.machinery.SourceFileLoader):
    """Executes a file as it stands, and keeps no bytecode of it.

    Python takes a file of bytecode for that of the source if the source's size and the second of its time are as they
    were: one that is saved, run and saved again within a second would run as it was.
    """

    def get_code(self, fullname: str) -> types.CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def source_spec(name: str, path: str | os.PathLike[str]) -> importlib.machinery.ModuleSpec:
    """Of a file as a module of that name, executed as it stands. ImportError if it is no Python file."""
    if not os.fspath(path).endswith(".py"):
        raise ImportError(f"{path} is not a Python file")
    spec = importlib.util.spec_from_file_location(name, path, loader=FromSource(name, os.fspath(path)))
    assert spec is not None
    return spec


def load(path: str | os.PathLike[str], package: str = "") -> types.ModuleType:
    """Execute a kernel file with the simulator as its `nki`, in a fresh module that `sys.modules` does not know.

    package: the one that its relative imports start from.
    """
    name = f"{package and package + '.'}triptych_kernel_{os.path.splitext(os.path.basename(path))[0]}"
    spec = source_spec(name, path)
    module = importlib.util.module_from_spec(spec)
    assert spec.loader is not None
    with simulated_nki():
        spec.loader.exec_module(module)
    return module
