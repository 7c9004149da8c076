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
from typing import Any

from triptych.simulator.api import modules
from triptych.simulator.launch.kernel import Kernel, jit, simulate, simulate_kernel

_lock = threading.RLock()


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
        if name == "nki.simulator":  # as vLLM Neuron's CPU mode calls it; AWS documents no more of this module
            module.__dict__.update(simulate_kernel=simulate_kernel)
        module.__dict__.update(namespaces.contents(name))
        module.__doc__ = f"{name} of NKI, simulated by Triptych."
        module.__dict__["__triptych__"] = True

        def missing(attribute: str) -> Any:
            if f"{name}.{attribute}" in modules.SIMULATED:  # a submodule, which `import nki` alone gives too
                return importlib.import_module(f"{module.__name__}.{attribute}")
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
            real = real_nki() if top == "nki" else importlib.machinery.PathFinder.find_spec(top)
            return None if top not in ("nki", "neuronxcc") or real is not None else _spec(fullname)
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
    with _lock:
        before = {n: sys.modules.pop(n) for n in list(sys.modules) if n == "nki" or n.startswith("nki.")}
        try:
            for name in modules.SIMULATED:
                module = importlib.util.module_from_spec(_spec(name))
                sys.modules[name] = module
                _Loader().exec_module(module)
            yield
        finally:
            for n in [n for n in sys.modules if n == "nki" or n.startswith("nki.")]:
                del sys.modules[n]
            sys.modules.update(before)


def load(path: str | os.PathLike[str], package: str = "") -> types.ModuleType:
    """Execute a kernel file with the simulator as its `nki`, in a fresh module that `sys.modules` does not know.

    package: the one that its relative imports start from.
    """
    name = f"{package and package + '.'}triptych_kernel_{os.path.splitext(os.path.basename(path))[0]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    with simulated_nki():
        spec.loader.exec_module(module)
    return module
