"""Predicted points: the projections of a block on a NeuronCore while all cores of its chip are busy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from triptych import simulator
from triptych.harness.accelerators.catalogue import Catalogue
from triptych.harness.collection import builtin
from triptych.harness.cost.blocks import DTYPE, Block
from triptych.harness.cost.points import PREDICTED, Point
from triptych.harness.ops.selection import Selection
from triptych.harness.profiling.subjects import of_ops
from triptych.harness.profiling.tracing import traced

KERNEL = "matmul_mk"  # the left operand as it is stored


def of_model(
    block: Block, known: Catalogue, rows: Sequence[int], targets: Sequence[str], on_point: Callable[[str], None]
) -> Iterator[Point]:
    """A point for each number of rows on each chip; cores that share a memory get their part of its rate."""
    op = builtin()[KERNEL]
    for target in targets:
        chip = known.of_target(target)
        if chip is None:
            continue
        core = simulator.TARGETS[target]
        shared = {"dma_gb_per_s": min(core.dma_gb_per_s.value, core.hbm_gb_per_s.value / core.hbm_cores.value)}
        for count in rows:
            times = {}
            for projection in block.projections:
                on_point(f"{target} {block.model}/{projection.name}/s{count}")
                spec = f"M={count},K={projection.k},N={projection.n}"
                (subject,) = of_ops([op], Selection(specs=[spec], dtypes=[DTYPE]), {})
                times[projection.name] = simulator.predict_trace(traced(subject, target), settings=shared).total_us
            us = block.us(times)
            assert us is not None
            yield Point(chip, count, us, block, PREDICTED, f"triptych's {KERNEL}, timing model")
