"""The lowest versions that pyproject.toml declares of what triptych needs, as requirements: `numpy==2.0.*`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
DEPENDENCIES = re.compile(r"^dependencies = \[\n(.*?)^\]", re.MULTILINE | re.DOTALL)
BOUND = re.compile(r'^ +"(?P<name>[\w-]+)>=(?P<version>[\d.]+)(?P<condition>;[^"]*)?"', re.MULTILINE)


def lowest(text: str, linux: bool) -> list[str]:
    """The requirements of a pyproject.toml; what is declared under a condition is for Linux alone."""
    (declared,) = DEPENDENCIES.findall(text)
    found = [match for match in BOUND.finditer(declared) if linux or not match["condition"]]
    return [f"{match['name']}=={match['version']}.*" for match in found]


if __name__ == "__main__":
    print("\n".join(lowest(PROJECT.read_text(encoding="utf-8"), sys.platform == "linux")))
