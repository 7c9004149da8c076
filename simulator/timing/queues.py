"""Which queue issues a transfer, and how long that takes it.

A queue belongs to what makes the descriptors and to who triggers the transfer (nki/deep-dives/nki-dge.rst):

    static    descriptors lie in HBM before the kernel starts
    gpsimd    software DGE
    sync      hardware DGE; each NeuronCore from v3 on has two, commanded by Sync and by Scalar
    scalar

What a kernel leaves open the compiler decides. On NeuronCore-v2 it is static. Later, GpSimd issues it: in a window of
AWS's first step of its matmul ladder on Trn2, GpSimd triggers a load every 603 ns, give or take 10, and no other engine
triggers any (nki/img/how-to/v2-zoom.png). A transpose can be of software DGE only if it gathers, and of hardware DGE
only with 16 rows of two-byte elements; others are static. So is a sum of tensors by DMA at addresses that are known;
one at others is of software DGE (nki/api/nki/isa/__init__.py, dma_compute).

What comes from SBUF, and so waits for an engine, has a queue of its own behind the same trigger. While Scalar
issues, it runs no instruction.
"""

from __future__ import annotations

from triptych.simulator.chip.record import Chip
from triptych.simulator.trace import Event, Trace

FROM_SBUF = ", from SBUF"


def queue_of(event: Event, chip: Chip) -> str:
    """The name of the queue that issues a transfer; "cores" for what two cores or ranks exchange."""
    if "pipe" in event.attributes or "ranks" in event.attributes:
        return "cores"
    attributes = event.attributes
    mode = attributes.get("dge") or _left_open(event, chip)
    issuer = {"none": "static", "swdge": "gpsimd"}.get(mode) or str(attributes.get("trigger", "sync"))
    return issuer + FROM_SBUF if event.reads and event.reads[0].allocation.buffer == "sbuf" else issuer


def issuer_of(queue: str) -> str:
    """Who triggers what is in a queue: queues of one trigger share its time."""
    return queue.removesuffix(FROM_SBUF)


def issue_ns(queue: str, chip: Chip) -> float:
    """How long the issue of one transfer keeps its trigger."""
    special = {"static": chip.dma_static_issue_ns, "gpsimd": chip.dma_software_issue_ns}
    return special.get(issuer_of(queue), chip.dma_issue_ns).value


def lead_ns(queue: str, chip: Chip) -> float:
    """From the begin of the issue of a transfer to its first byte."""
    by_hardware = issuer_of(queue) in ("sync", "scalar")
    return (chip.dma_hardware_start_ns if by_hardware else chip.dma_start_ns).value


def most_issued(trace: Trace) -> tuple[float, list[Event]]:
    """The transfers of the trigger that takes longest to issue its own, and how many ns; none where there are none."""
    issued: dict[tuple[int, str], list[Event]] = {}
    for event in trace.events:
        if event.engine == "dma" and event.reads and event.writes:
            issued.setdefault((event.core, issuer_of(queue_of(event, trace.chip))), []).append(event)
    times = {key: len(events) * issue_ns(key[1], trace.chip) for key, events in issued.items()}
    most = max(times, key=times.__getitem__, default=None)
    return (0.0, []) if most is None else (times[most], issued[most])


def _left_open(event: Event, chip: Chip) -> str:
    if "gathered" in event.attributes or "scattered" in event.attributes:
        return "swdge"
    if chip.generation == 2 or event.op == "dma_compute":
        return "none"
    if event.op != "dma_transpose":
        return "swdge"
    src = event.reads[0]
    return "hwdge" if src.shape[0] == 16 and src.shape[-1] % 128 == 0 and src.dtype.itemsize == 2 else "none"
