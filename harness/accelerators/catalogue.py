"""The records of `accelerators.toml`: chips, prices and published rates, checked when they are read."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from triptych.harness.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OWN = "accelerators.toml"
Kind = Literal["on-demand", "reserved", "spot", "capacity-block", "ownership"]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of the file."""


class Chip(Entry, frozen=True, kw_only=True):
    """A chip: dense peaks in TFLOP/s and the bandwidth of its memory in GB/s."""

    name: str
    vendor: str
    title: str
    bfloat16: Positive
    float32: Positive
    hbm_gb_per_s: Positive
    source: str
    cores: Annotated[int, msgspec.Meta(ge=1)] = 1  # that run kernels of their own, and share peaks and bandwidth
    targets: tuple[str, ...] = ()  # the names by which results of the simulator call it
    gpu: str = ""  # what the name of a device holds
    compiled_for: str = ""  # the target of Triton's compiler: "sm_90"

    def peak(self, dtype: str) -> float:
        """TFLOP/s of a dtype; float16 has bfloat16's, and what is not known float32's."""
        return self.bfloat16 if dtype in ("bfloat16", "float16") else self.float32

    def bends_at(self, dtype: str) -> float:
        """Operations a byte at which the roofline bends: with fewer the memory is the bound."""
        return self.peak(dtype) * 1e3 / self.hbm_gb_per_s

    def bound_us(self, flops: float, moved: float, dtype: str, cores: int | None = None) -> float:
        """The least time of so many operations and bytes on some of its cores: the roofline, in microseconds."""
        share = (cores or self.cores) / self.cores
        return max(flops / (self.peak(dtype) * share * 1e6), moved / (self.hbm_gb_per_s * share * 1e3))


class OfChip(Entry, frozen=True, kw_only=True):
    """A row that is of one chip, by its name."""

    chip: str


class Price(OfChip, frozen=True, kw_only=True):
    """What an hour of one chip costs, where and when."""

    usd_per_hour: Positive
    kind: Kind
    region: str
    date: str
    source: str

    @property
    def words(self) -> str:
        return f"{self.kind}, {self.region}, {self.date}"


class Published(OfChip, frozen=True, kw_only=True):
    """A rate that somebody measured on a chip and published, with the software that reached it."""

    dtype: str
    tflop_per_s: Positive
    of: str
    software: str
    source: str


class Catalogue(Entry, frozen=True, kw_only=True):
    """All of a file."""

    chips: Annotated[tuple[Chip, ...], msgspec.Meta(min_length=1)] = msgspec.field(name="chip")
    prices: tuple[Price, ...] = msgspec.field(name="price", default=())
    published: tuple[Published, ...] = ()

    def chip(self, name: str) -> Chip:
        return next(chip for chip in self.chips if chip.name == name)

    def of_target(self, target: str | None) -> Chip | None:
        """The chip that a result of the simulator is for."""
        return next((chip for chip in self.chips if target in chip.targets), None)

    def compiled_for(self, target: str) -> list[Chip]:
        """The chips that a kernel which is compiled for a target runs on."""
        return [chip for chip in self.chips if chip.compiled_for == target]

    def of_gpus(self, gpus: Sequence[Mapping[str, Any]]) -> Chip | None:
        """The chip that a machine's first GPU is; None for one that is not in the file."""
        name = str(gpus[0].get("name", "")) if gpus else ""
        return next((chip for chip in self.chips if chip.gpu and chip.gpu in name), None)

    def prices_of(self, chip: Chip, kind: str | None = None) -> list[Price]:
        """The prices of a chip, of one kind or of all, the lowest first."""
        found = [price for price in self.prices if price.chip == chip.name and kind in (None, price.kind)]
        return sorted(found, key=lambda price: price.usd_per_hour)

    def rate_of(self, chip: Chip, dtype: str) -> Published | None:
        """The highest published rate of a chip."""
        found = [rate for rate in self.published if rate.chip == chip.name and rate.dtype == dtype]
        return max(found, key=lambda rate: rate.tflop_per_s, default=None)


def parse(text: str, name: str) -> Catalogue:
    """The catalogue of a text; UsageError says in a sentence why it is none."""
    try:
        found = msgspec.convert(tomllib.loads(text), Catalogue)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{name} is no file of accelerators: {str(error).rstrip('.')}.") from error
    known = {chip.name for chip in found.chips}
    rows: list[OfChip] = [*found.prices, *found.published]
    for row in rows:
        if row.chip not in known:
            raise UsageError(f"{name} has a row of the chip {row.chip!r}; its chips are {', '.join(sorted(known))}.")
    return found


def read(path: str) -> Catalogue:
    """The catalogue in a user's file."""
    try:
        return parse(Path(path).read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}.") from error


@cache
def catalogue() -> Catalogue:
    """Our own."""
    package = resources.files("triptych.harness.accelerators")
    return parse(package.joinpath(OWN).read_text(encoding="utf-8"), OWN)
