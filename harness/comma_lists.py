"""Lists as a command line gives them."""

from __future__ import annotations

import re

OUTSIDE = re.compile(r",(?![^(\[{]*[)\]}])")  # a comma that is in no brackets


def comma_list(text: str) -> list[str]:
    """`a,b , c` as ["a", "b", "c"]; empty parts are dropped, and brackets, as in `64-window=(1, 2)`, stay whole.

    As `type=` of an argparse option with `action="extend"`, it joins the lists of a repeated option.
    """
    return [part.strip() for part in OUTSIDE.split(text) if part.strip()]
