"""Lists as a command line gives them."""

from __future__ import annotations


def comma_list(text: str) -> list[str]:
    """`a,b , c` as ["a", "b", "c"]; empty parts are dropped.

    As `type=` of an argparse option with `action="extend"`, it joins the lists of a repeated option.
    """
    return [part.strip() for part in text.split(",") if part.strip()]
