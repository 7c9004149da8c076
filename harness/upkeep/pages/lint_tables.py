"""The tables of docs/lint.md: the rules of the linter, and their examples."""

from __future__ import annotations

from collections.abc import Callable

from triptych.harness.reports.markdown import Markdown, markdown_table
from triptych.simulator import lint


def rules() -> str:
    """One row a rule."""
    rows = [
        (Markdown(f"[`{r.id}`](#{r.id})"), r.severity, r.versions, r.statement, r.source) for r in lint.RULES.values()
    ]
    return markdown_table(("rule", "severity", "NKI", "what it says", "source"), sorted(rows))


def examples() -> str:
    """Both examples of each rule, under a heading that the table of rules links to."""
    parts = []
    for id, rule in sorted(lint.RULES.items()):
        parts += [f"### {id}\n\n```python\n{rule.bad}```\n\n```python\n{rule.good}```\n"]
    return "\n" + "\n".join(parts) + "\n"


TABLES: dict[str, Callable[[], str]] = {"lint-rules": rules, "lint-examples": examples}
