"""The one way to write HTML: templates that escape by themselves, in one file that asks for nothing over a network.

The templates, style sheets and scripts lie in templates/, each as a file of its own kind. Jinja2 is imported where a
page is written.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from triptych.harness.reports.formats import flatten, percent, plural, short, thousands, us
from triptych.harness.results.timing_accuracy import LAST_VALIDATION

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

PACKAGE = "triptych.harness.reports"


def render(template: str, **values: Any) -> str:
    """The page of a template, as "report/page.html", with what it names."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader(PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,  # a name that nobody gave is an error, not an empty cell
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"source": source, "timing_accuracy": LAST_VALIDATION}
    made.filters |= {
        "count": thousands,
        "flat": flatten,
        "percent": percent,
        "plural": plural,
        "short": short,
        "us": us,
    }
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    return made


def source(name: str) -> Markup:
    """A style sheet or a script of ours, to stand in a page as it is."""
    from markupsafe import Markup

    text = resources.files(PACKAGE).joinpath("templates", name).read_text(encoding="utf-8")
    if "</" in text:
        raise ValueError(f"{name} holds '</', which could end the element that it stands in: write '<\\/'")
    return Markup(text)
