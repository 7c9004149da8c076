"""The JSON document of the command line: an environment, and the results or profiles of a run in it.

A document of a later version reads as well: fields that are unknown here are kept and written again, and the number of
the schema rises only where a reader would take something for what it is not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from triptych.harness.errors import UsageError
from triptych.harness.results.origin import Origin, origin
from triptych.harness.results.profile import Outcome, Profile
from triptych.harness.results.record import to_plain
from triptych.harness.results.result import PARTS, Result, complete
from triptych.harness.results.timing import Measured
from triptych.harness.results.unknown import put_back, unknown_fields

SCHEMA_VERSION = 1
NON_FINITE = ("nan", "inf", "-inf")


class DocumentError(UsageError):
    """A file is not what a document must be."""


class Document(msgspec.Struct, kw_only=True):
    """What `--json` writes; `report --from`, `compare` and `--resume` read it."""

    schema_version: int = SCHEMA_VERSION
    complete: bool = True  # whether everything that was asked for is here; not so of a run that was cut short
    planned: int | None = None  # how many results it has when it is complete
    env: dict[str, Any]
    results: list[Outcome]
    unknown: dict[str, Any] = {}  # what this version does not know of a file, beside what it does not know of `results`

    @property
    def origin(self) -> Origin:
        return origin(self.env)

    @property
    def cut_short(self) -> str:
        """The sentence on a run that did not come to its end; empty for one that did."""
        if self.complete:
            return ""
        of = f"{len(self.results)} of {self.planned}" if self.planned is not None else f"{len(self.results)}"
        return f"INCOMPLETE: the run was cut short after {of} results, and what did not run is not known to be right."

    def to_json(self) -> str:
        """The text of the document: no NaN, units in key names, raw samples kept."""
        body = {
            "schema_version": self.schema_version,
            "complete": self.complete,
            **({} if self.planned is None else {"planned": self.planned}),
            "env": to_plain(dict(self.env)),
            "results": [written(result) for result in self.results],
        }
        return json.dumps(put_back(body, self.unknown), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def written(result: Outcome) -> Any:
    """A row of a document, with what an earlier reader did not know of it."""
    return put_back(result.to_dict(), result.unknown)


def dumps(env: Mapping[str, Any], results: Sequence[Outcome]) -> str:
    """The text of a document whose run came to its end."""
    return Document(env=dict(env), results=list(results)).to_json()


def read(path: str) -> Document:
    """The document at `path`; DocumentError says in a sentence why it is none."""
    try:
        return parse(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DocumentError(f"cannot read {path}: {error.strerror or error}.") from error
    except RecursionError:
        raise DocumentError(
            f"{path} is not a document that `triptych --json` wrote: it is nested too deeply."
        ) from None
    except (ValueError, msgspec.ValidationError) as error:
        why = str(error).replace("\n", " ")
        raise DocumentError(f"{path} is not a document that `triptych --json` wrote: {why}.") from error


def parse(text: str) -> Document:
    """The document of a text; ValueError or msgspec.ValidationError where it is none."""
    body = json.loads(text)
    if not isinstance(body, dict):
        raise ValueError("it holds something else")
    for name in ("schema_version", "env", "results"):
        if name not in body:
            raise ValueError(f"it has no {name!r}")
    if body["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"it has schema version {body['schema_version']!r}, and this triptych reads {SCHEMA_VERSION}")
    try:
        text.encode("utf-8")
        json.dumps(body, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair, which is no text") from None
    rows = body["results"]
    if isinstance(rows, list):
        rows = [complete(row) for row in rows]
    made = msgspec.convert({**body, "results": rows, "unknown": {}}, Document, strict=False)
    try:
        origin(made.env)
    except msgspec.ValidationError as error:
        raise ValueError(str(error).replace("`$", "`$.env")) from error
    for i, (row, result) in enumerate(zip(body["results"], made.results, strict=True)):
        check_times(result, i)
        result.unknown.update(unknown_fields(row, result.to_dict()) or {})
    made.unknown = {name: value for name, value in body.items() if name not in Document.__struct_fields__}
    return made


def check_times(result: Outcome, index: int) -> None:
    """ValueError where a time of a result is no number; that none is negative, the types say."""
    times = [result.timing.us] if result.timing else []
    if isinstance(result.timing, Measured):
        times += result.timing.samples_us
    if not all(map(math.isfinite, times)):
        raise ValueError(f"a time must be a finite number - at `$.results[{index}].timing`")


def schema() -> dict[str, Any]:
    """The JSON schema (2020-12) of what `to_json` writes; other fields than it names may be there."""
    _, definitions = msgspec.json.schema_components([Document, Origin], ref_template="#/$defs/{name}")
    for name in ("Document", Result.__name__, Profile.__name__):
        definitions[name]["properties"].pop("unknown")
    definitions["Document"]["properties"]["env"] = {"$ref": "#/$defs/Origin"}
    for name in (Result.__name__, Profile.__name__):
        for part in set(PARTS) & definitions[name]["properties"].keys():
            definitions[name]["properties"][part]["anyOf"].append({"type": "object", "maxProperties": 0})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A document of triptych, schema version {SCHEMA_VERSION}",
        "$ref": "#/$defs/Document",
        "$defs": named_numbers(definitions),
    }


def named_numbers(part: Any) -> Any:
    """A schema in which a number may be the name of one that JSON lacks; a time, which has a least, may not."""
    if isinstance(part, list):
        return [named_numbers(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    if part.get("type") == "number" and "minimum" not in part:
        rest = {key: value for key, value in part.items() if key != "type"}
        return {**rest, "anyOf": [{"type": "number"}, {"enum": list(NON_FINITE)}]}
    return {key: named_numbers(inner) for key, inner in part.items()}
