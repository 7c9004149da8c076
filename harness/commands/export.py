"""`triptych export`: saved results as one folder or zip: documents, page, tables and pictures."""

from __future__ import annotations

import io
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from triptych.harness import files
from triptych.harness.exit_codes import ExitCode
from triptych.harness.reports import overview, tables
from triptych.harness.reports.charts.files import file_name, picture
from triptych.harness.reports.formats import plural
from triptych.harness.reports.report.data import ReportData
from triptych.harness.reports.report.page import page
from triptych.harness.reports.report.pictures import diagrams, pictures
from triptych.harness.results.document import Document, read

EPOCH = (1980, 1, 1, 0, 0, 0)  # of the files in a zip, so that the same results give the same bytes


def run(arguments: Namespace) -> int:
    """Write the bundle, whole or not at all."""
    target = files.to_be_made(arguments.to, "--to names a folder, or a file that ends in .zip,")
    found = bundle([read(path) for path in arguments.documents])
    write_zip(target, found) if target.suffix == ".zip" else files.write_folder(target, found)
    print(f"{target}: {plural(len(found), 'file')}: {', '.join(found)}")
    return ExitCode.OK


def bundle(runs: list[Document]) -> dict[str, str]:
    """Each file of a bundle by its name."""
    results = [result for run in runs for result in run.results]
    warnings = overview.warnings(runs).splitlines()
    each = [(run.env, run.results) for run in runs]
    data = ReportData.of(each, warnings)
    seeds = {run.env.get("seed") for run in runs}
    seed = seeds.pop() if len(seeds) == 1 else None
    names = ["results.json"] if len(runs) == 1 else [f"results-{number}.json" for number in range(1, len(runs) + 1)]
    found = {name: run.to_json() for name, run in zip(names, runs, strict=True)}
    found |= {
        "report.html": page(each, warnings),
        "results.csv": tables.comma_separated(results),
        "results.md": tables.markdown(results, seed, warnings, diagrams(data)),
    }
    drawn = pictures(data)
    for number, chart in enumerate([*drawn.rooflines, *drawn.sizes] if drawn else (), 1):
        found[f"pictures/{number:02}-{file_name(chart.title)}.svg"] = picture(chart)
    return found


def write_zip(target: Path, found: Mapping[str, str]) -> None:
    """The files in a zip that is whole when it has its name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in found.items():
            about = zipfile.ZipInfo(f"{target.stem}/{name}", EPOCH)
            about.compress_type, about.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(about, text.encode("utf-8"))
    files.write(str(target), buffer.getvalue())
