"""The JSON document of the command line: an environment, and the results or profiles of a run in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from triptych.harness.errors import UsageError
from triptych.harness.results.profile import Outcome
from triptych.harness.results.record import to_plain
from triptych.harness.results.result import complete

SCHEMA_VERSION = 1


class DocumentError(UsageError):
    """A file is not what a document must be."""


class Document(msgspec.Struct, kw_only=True):
    """What `--json` writes and `report --from` reads."""

    schema_version: int = SCHEMA_VERSION
    env: dict[str, Any]
    results: list[Outcome]


def dumps(env: Mapping[str, Any], results: Sequence[Outcome]) -> str:
    """The text of a document: no NaN, units in key names, raw samples kept."""
    rows = [result.to_dict() for result in results]
    body = {"schema_version": SCHEMA_VERSION, "env": to_plain(dict(env)), "results": rows}
    return json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read(path: str) -> Document:
    """The document at `path`; DocumentError says in a sentence why it is none. Unknown fields are ignored."""
    try:
        body = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DocumentError(f"cannot read {path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise DocumentError(f"{path} is not a document that `triptych --json` wrote ({error}).") from error
    missing = [name for name in Document.__struct_fields__ if not isinstance(body, dict) or name not in body]
    if missing:
        why = f"it has no {missing[0]!r}" if isinstance(body, dict) else "it holds something else"
        raise DocumentError(f"{path} is not a document that `triptych --json` wrote: {why}.")
    if body["schema_version"] != SCHEMA_VERSION:
        raise DocumentError(f"{path} has schema version {body['schema_version']}; this reads {SCHEMA_VERSION}.")
    if isinstance(body["results"], list):
        body["results"] = [complete(row) for row in body["results"]]
    try:
        return msgspec.convert(body, Document, strict=False)
    except msgspec.ValidationError as error:
        raise DocumentError(f"{path} is not a document that `triptych --json` wrote: {error}.") from error
