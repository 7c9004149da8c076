"""What a launcher offers for one case on a GPU, ranked by what the compiler says of each, before any of it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from triptych.harness.backends.configurations import offers
from triptych.harness.backends.configurations.offers import Setting
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.profiling.ranking import order

if TYPE_CHECKING:
    from triptych.harness.emulators.compilation import Launch


@dataclass(frozen=True)
class Ranked:
    """A setting with its place, the lowest the best; no place where nothing is known of the GPU."""

    setting: Setting
    place: tuple[int, ...] = ()


def ranked(op: Op, case: Case, architecture: str, known: bool) -> Iterator[Ranked]:
    """The settings that launch different kernels, the launcher's own first, each as soon as it is ranked.

    One that does not compile or fit is left out, unless it is the launcher's own.
    known: whether the compiler's facts for the architecture hold for the GPU.
    """
    from triptych.harness.emulators.compilation import compiled
    from triptych.harness.emulators.errors import EmulationError
    from triptych.harness.profiling.ahead_of_time import launching, misfit

    met: set[str] = set()
    with launching(op, case, architecture) as (launcher, launches):
        for setting in list(offers.offered(launcher, architecture, launches)):
            with offers.in_force(launcher, architecture, setting):
                would = launches()
            said = in_words(would)
            if said in met:
                continue
            is_own = not met
            met.add(said)
            try:
                kernels = [compiled(launch, architecture) for launch in would] if known else []
            except EmulationError:
                kernels = None
            if kernels is None or any(map(misfit, kernels)):
                if is_own:
                    yield Ranked(setting, ())
                continue
            yield Ranked(setting, order([kernels]) if known else ())


def in_words(would: list[Launch]) -> str:
    """What tells the launches of one setting from those of another."""
    plain = (bool, int, float, str)
    return repr(
        [
            (one.kernel.fn.__name__, one.grid, {k: v for k, v in one.arguments.items() if isinstance(v, plain)})
            for one in would
        ]
    )
