"""What is known of Triton kernels without a GPU, as text: work and rooflines of a case, then a row each launch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from triptych.harness.reports.formats import percent, plural, printable, scaled, short, us
from triptych.harness.reports.profile import compiled
from triptych.harness.reports.text_table import text_table

if TYPE_CHECKING:
    from triptych.harness.profiling.on_gpu import GpuProfile, Launched

ROOFLINES = ("GPU", "target", "least us", "bound by", "bends at FLOP/B")
OF_CASE = compiled.HEADER.index("target")  # columns before it are the same of all launches
FILLING = ("launched", "waves", "full")


def text(profiles: Sequence[GpuProfile]) -> str:
    """A section a case."""
    return "\n\n".join("\n".join(section(profile)) for profile in profiles) + "\n" * bool(profiles)


def section(profile: GpuProfile) -> Iterator[str]:
    yield printable(f"{profile.op} {profile.case} {profile.dtype}: compiled, never run")
    yield ""
    yield f"work  {work(profile)}"
    if profile.rooflines:
        rows = [(one.chip, one.target, us(one.least_us), one.bound, short(one.bends_at)) for one in profile.rooflines]
        yield ""
        yield from text_table([ROOFLINES, *rows], right=(2, 4), rule=True)
    yield ""
    if not profile.launches:
        yield "no kernel: the op takes the case on none of these GPUs"
        return
    header = (*compiled.HEADER[OF_CASE:], *FILLING)
    numbers = [header.index(name) for name in ("warps", "stages", "registers", "spilled B", "shared KiB", *FILLING)]
    numbers += [header.index(name) for name in ("programs", "occupancy")]
    yield from text_table([header, *map(row, profile.launches)], right=numbers, rule=True)
    said = [line for one in profile.launches for line in remarks(one)]
    if said:
        yield ""
        yield from said


def work(profile: GpuProfile) -> str:
    """Operations and bytes, and how many to a byte."""
    said = [scaled(profile.flops, "FLOP")] if profile.flops is not None else []
    said += [scaled(profile.bytes, "B")] if profile.bytes is not None else []
    if profile.flops is not None and profile.bytes:
        said.append(f"{short(profile.flops / profile.bytes)} FLOP a byte")
    return ", ".join(said) or "not known: the op declares no flops and bytes, and so has no roofline"


def row(one: Launched) -> list[str]:
    cells = compiled.row(one.compilation)[OF_CASE:]
    if one.compilation.kernel is None or one.waves is None or one.full is None:
        return cells
    return [*cells, f"{one.compilation.launched:,}", short(one.waves), percent(one.full)]


def remarks(one: Launched) -> Iterator[str]:
    """What is wrong with a launch, and how many places it leaves idle if that is more than a tenth of the time."""
    compilation = one.compilation
    name = f"{compilation.target} {compilation.kernel.kernel}" if compilation.kernel else compilation.target
    if compilation.fault:
        yield printable(f"{name}: {compilation.fault}")
    if one.waves is None or one.full is None or one.full >= 0.9:
        return
    last, of = one.waves - math.ceil(one.waves) + 1, plural(math.ceil(one.waves), "wave")
    programs = plural(compilation.launched, "program")
    whose = f"its {programs} take" if one.waves < 1 else f"of {of} the last takes"
    yield f"{name}: {whose} {percent(last)} of the GPU's places"
