"""What a Neuron instance needs before `nki` runs and times kernels there: which part is here, and the next step."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

DEVICE = "/dev/neuron0"
PRODUCT = Path("/sys/devices/virtual/dmi/id/product_name")  # where an EC2 instance says its type
RUNTIME = Path("/opt/aws/neuron/lib")  # of libnrt (neuron-runtime/nrtpy/nrtpy-getting-started)
OVERRIDE = "NEURON_PLATFORM_TARGET_OVERRIDE"
NRTPY = "TRIPTYCH_NRTPY_PYTHON"  # the Python of the environment that has nrtpy
SETUP = "as AWS's setup guide for Neuron says, from AWS's package index"


@dataclass(frozen=True)
class Part:
    """One thing that has to be here: what was found, or what it is needed for, what is wrong, and what to do."""

    name: str
    found: str | None
    needed_to: str
    wrong: str = ""
    step: str = ""

    @property
    def sentence(self) -> str:
        """What is wrong and what to do."""
        return "; ".join(filter(None, (self.wrong, self.step)))

    @property
    def words(self) -> str:
        return self.found or f"needed to {self.needed_to}: {self.sentence}"


def parts() -> list[Part]:
    """Every part, in the order in which one needs them; looks at nrtpy's environment, which takes half a second."""
    python, why = nrtpy_python()
    version = nrtpy_version(python) if python else None
    if python and version is None:
        why = (
            f"{python} ({NRTPY}) has no nrtpy that can be imported; install it there {SETUP}, with {RUNTIME} on its "
            "LD_LIBRARY_PATH, and without nki, which shares no environment with it"
        )
    explorer = shutil.which("neuron-explorer")
    return [
        device(),
        chip(),
        nki(),
        compiler(),
        Part("nrtpy", version and f"{version}, by {python}", "time kernels by the device's clock", why),
        Part(
            "neuron-explorer", explorer, "see a profile", "it is not on PATH", "install the package aws-neuronx-tools"
        ),
    ]


def first_missing(some: Sequence[Part]) -> str | None:
    """A sentence on the first part that is not here, None if all are."""
    return next((f"{part.name}: {part.step or part.wrong}" for part in some if not part.found), None)


def device() -> Part:
    here = len(glob.glob(f"{DEVICE.rstrip('0')}[0-9]*")) if os.path.exists(DEVICE) else 0
    wrong = f"there is no Neuron device here ({DEVICE})"
    step = "use an instance of Trn1, Inf2, Trn2 or Trn3 with the driver, package aws-neuronx-dkms"
    return Part("device", f"{DEVICE}, one of {here}" if here else None, "run kernels", wrong, step)


def chip() -> Part:
    wrong = "the type of this instance cannot be read"
    return Part("chip", target(), "compile for it", wrong, f"set {OVERRIDE} to trn1, inf2, trn2 or trn3")


def target() -> str | None:
    """trn1, inf2, trn2 or trn3, by AWS's variable or by the type of the instance."""
    named = os.environ.get(OVERRIDE)
    if named:
        return named
    try:
        product = PRODUCT.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    known = re.match(r"trn[123]|inf2", product)
    return known[0] if known else None


def nki() -> Part:
    """AWS's nki by what it consists of: it is not imported, which would start its compiler."""
    spec = PathFinder.find_spec("nki")
    version = _version("nki")
    found = None
    wrong, step = "AWS's nki is not installed", f"install it {SETUP}"
    if spec is not None:
        places = spec.submodule_search_locations or []
        if any(glob.glob(os.path.join(place, "isa*")) for place in places):
            found = version or "here, of no version"
        else:
            which = f"nki {version}" if version else "nki"
            wrong = f"the installed {which} is the placeholder of the public registry, not AWS's, which it shadows"
            step = f"`pip uninstall nki`, then install AWS's {SETUP}"
    return Part("nki", found, "compile kernels", wrong, step)


def compiler() -> Part:
    version = _version("neuronx-cc")
    found = None
    if PathFinder.find_spec("neuronxcc") is None:
        wrong, step = "AWS's compiler neuronx-cc is not installed", f"install it {SETUP}"
        if version:
            wrong = f"the installed neuronx-cc {version} is the placeholder of the public registry"
            step = f"`pip uninstall neuronx-cc`, then install AWS's {SETUP}"
    elif shutil.which("neuronx-cc", path=search_path()) is None:
        wrong = "the command neuronx-cc is not on PATH, where nki calls it"
        step = "activate the environment that it is in"
    else:
        found, wrong, step = version or "here, of no version", "", ""
    return Part("neuronx-cc", found, "compile kernels", wrong, step)


def nrtpy_python() -> tuple[str | None, str]:
    """The Python of nrtpy's environment; else None and what to do."""
    named = os.environ.get(NRTPY)
    if not named:
        return None, (
            f"make an environment of its own with nrtpy, which shares none with nki, {SETUP}, and set {NRTPY} to its "
            "Python, as ~/nrtpy_venv/bin/python"
        )
    found = shutil.which(named)
    return found, "" if found else f"{NRTPY} names {named!r}, which is no program"


def nrtpy_version(python: str) -> str | None:
    """The version of nrtpy in another environment, None if it cannot be imported there."""
    code = "import importlib.metadata as m, nrtpy; print(m.version('nrtpy'))"
    try:
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=60, env=runtime_environment(), check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def search_path() -> str:
    """PATH, and what lies beside this Python: its environment need not be active."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), os.path.dirname(sys.executable)])


def runtime_environment() -> dict[str, str]:
    """The environment of a process that loads libnrt, which AWS's packages leave off the library path."""
    paths = [str(RUNTIME), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {**os.environ, "PATH": search_path(), "LD_LIBRARY_PATH": os.pathsep.join(paths)}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
