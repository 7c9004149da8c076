"""What an instruction costs its engine, in nanoseconds, and how that is known.

    documented   NKI 0.6's documentation says it: its stubs, its architecture guides, its guide to DMA bandwidth
    historical   AWS gave the formula, in engine cycles for NeuronCore-v2, until its documentation of 2.26.1 and has
                 since removed it (nki/api/nki/isa/__init__.py at v2.26.1)
    assumed      nothing is published; the formula is that of an instruction which does about the same

N is the number of elements per partition. The faster modes of v3 and v4 are those of the architecture guides. Every
constant is a field of the chip record.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from triptych.simulator.analysis.descriptors import descriptors, transposed
from triptych.simulator.chip.record import Chip, Fact
from triptych.simulator.trace import Event, Region

Known = Literal["documented", "historical", "assumed"]
Formula = Callable[[Event, Chip], float]
_TWO_BYTES = ("bfloat16", "float16")
_FLOAT8 = ("float8_e4m3", "float8_e5m2", "float8_e4m3fn")


@dataclass(frozen=True)
class Cost:
    """A formula and how it is known; called with an event and a chip it gives nanoseconds."""

    formula: Formula
    known: Known

    def __call__(self, event: Event, chip: Chip) -> float:
        return self.formula(event, chip)

    @property
    def text(self) -> str:
        """The formula in words."""
        return str(self.formula.__doc__).strip()

    def assumed(self) -> Cost:
        """The same formula for an instruction of which none is published."""
        return replace(self, known="assumed")


def known(how: Known) -> Callable[[Formula], Cost]:
    return lambda formula: Cost(formula, how)


def ghz(event: Event, chip: Chip) -> float:
    """Clock of the engine that ran an event."""
    clock: Fact = getattr(chip, f"{event.engine}_ghz")
    return clock.value


def _streamed(event: Event, chip: Chip, cycles: float) -> float:
    if event.engine == "gpsimd":
        cycles += chip.gpsimd_start_cycles.value
    return max(chip.min_cycles.value, cycles) / ghz(event, chip)


def _n(event: Event) -> int:
    return max(r.free_size for r in (*event.reads, *event.writes))


def _cycles(each: float, how: Known, text: str) -> Cost:
    """So many cycles an element, and nothing faster."""

    def formula(event: Event, chip: Chip) -> float:
        return _streamed(event, chip, each * _n(event))

    formula.__doc__ = text
    return Cost(formula, how)


streamed = _cycles(1, "historical", "max(64, N) cycles, with no faster mode.")
scan = _cycles(2, "historical", "max(64, 2N) cycles.")
gpsimd = _cycles(1, "historical", "150 + N cycles.")
either = _cycles(1, "assumed", "max(64, N) cycles on Vector, 150 + N on GpSimd.")
_FOUR = "max(64, N/4) cycles: four elements per partition and cycle (nki/guides/architecture/trainium3_arch.rst)."
quarter = _cycles(0.25, "documented", _FOUR)


# Scalar's mode is that which Vector has where it is twice as fast (nki/guides/architecture/trainium3_arch.rst,
# Scalar Engine, Performance mode).
_FASTER_SINCE = {"vector": 3, "scalar": 4}  # generations


@known("historical")
def per_element(event: Event, chip: Chip) -> float:
    """max(64, N) cycles; 4x faster on v3+ Vector for two bytes in SBUF, 2x for float32, from PSUM, on v4 Scalar."""
    speed, n = 1.0, _n(event)
    sources, results = ([r for r in some if r.free_size == n] for some in (event.reads, event.writes))
    tiles = sources + results
    dense = all(r.strides[-1] == 1 for r in tiles)
    single = all(r.dtype == "float32" for r in sources) and all(r.allocation.buffer == "sbuf" for r in tiles)
    single = single and all(r.dtype == "float32" or r.dtype in _TWO_BYTES for r in results)
    if event.engine == "vector" and chip.generation >= 3 and event.op in ("tensor_copy", "tensor_scalar"):
        speed = 2.0 if single and dense else 1.0  # measured: see operand_cycles and reciprocal_cycles of the chip
    if (
        chip.generation >= _FASTER_SINCE.get(event.engine, math.inf)
        and event.op in ("tensor_copy", "tensor_scalar")
        and all(r.dtype in _TWO_BYTES for r in sources)
        and all(r.dtype in _TWO_BYTES or r.dtype in _FLOAT8 for r in results)
    ):
        # To float8 at twice the speed: nki/library/specs/design-rmsnorm-quant.rst, its profile of a quantization.
        narrower = any(r.dtype in _FLOAT8 for r in event.writes)
        in_sbuf = not narrower and all(r.allocation.buffer == "sbuf" for r in tiles)
        most = 4.0 if event.engine == "vector" else 2.0
        speed = most if in_sbuf and dense else 2.0 if in_sbuf or dense else 1.0
    return _streamed(event, chip, n / speed)


@known("historical")
def fill(event: Event, chip: Chip) -> float:
    """max(64, N) cycles; N/2 for zeros of two bytes; on GpSimd 150 + N."""
    fast = event.attributes["value"] == 0 and event.writes[0].dtype in _TWO_BYTES and event.engine == "vector"
    return _streamed(event, chip, _n(event) / (2 if fast else 1))


@known("historical")
def two_inputs(event: Event, chip: Chip) -> float:
    """2N cycles; N for inputs in PSUM and SBUF, on v3+ Vector in SBUF, of two bytes N/2, on v2 N for some bfloat16."""
    n = _n(event)
    inputs = [r for r in event.reads if r.free_size == n]
    buffers = {r.allocation.buffer for r in inputs}
    if _halved(event, chip, inputs):
        return _streamed(event, chip, n / 2)
    fast = len(buffers) > 1 or len(inputs) < 2 or ("psum" not in buffers and _together(event, chip, inputs))
    return _streamed(event, chip, n * (1 if fast else 2))


def _halved(event: Event, chip: Chip, inputs: list[Region]) -> bool:
    """Whether Vector adds two-byte tiles in SBUF two elements a cycle.

    nki/guides/architecture/trainium2_arch.rst, Vector Engine Performance Mode; the probes of the chip's
    reciprocal_cycles have 0.517 ns an element there, and 1.04 for float32.
    """
    tiles = (*inputs, *event.writes)
    if chip.generation < 3 or event.engine != "vector" or event.op != "tensor_tensor":
        return False
    return all(r.dtype in _TWO_BYTES and r.allocation.buffer == "sbuf" and r.strides[-1] == 1 for r in tiles)


# What v2 does at twice the speed in bfloat16: tensor_tensor's operators, and the one pair of scalar_tensor_tensor.
_V2_FAST = ("add", "subtract", "multiply", ("subtract", "multiply"))


def _together(event: Event, chip: Chip, inputs: list[Region]) -> bool:
    """Whether two inputs in SBUF stream together: on v2 in bfloat16, dense and for few operators; later on Vector.

    Vector's data path takes 256 elements a cycle from v3 on, two of each of 128 lanes, and on v2 128
    (nki/guides/architecture/trainium2_arch.rst, Compute Engine Specifications). A sum of 2000 float32 a lane would take
    4.17 us on Trn2 otherwise; Vector was active for 3.64 us in all (see dma_gb_per_s of the chip for the profiles).
    """
    if chip.generation >= 3:
        return event.engine == "vector"
    dense = all(r.dtype == "bfloat16" and r.strides[-1] == 1 for r in (*inputs, *event.writes))
    return dense and event.attributes["op"] in _V2_FAST


@known("historical")
def streamed_and_read_out(event: Event, chip: Chip) -> float:
    """max(64, N) cycles, and 64 more for the accumulator."""
    return _streamed(event, chip, _n(event)) + chip.min_cycles.value / ghz(event, chip)


@known("historical")
def predicated(event: Event, chip: Chip) -> float:
    """2N cycles; N where one of tile and predicate is in PSUM and the other in SBUF, or the tile is a number."""
    inputs = [r for r in event.reads if r.free_size == event.writes[0].free_size]
    fast = len({r.allocation.buffer for r in inputs}) > 1 or len(inputs) < 2
    return _streamed(event, chip, _n(event) * (1 if fast else 2))


@known("historical")
def reduction(event: Event, chip: Chip) -> float:
    """max(64, N) cycles; N/2 for a sum or a maximum from bfloat16 to bfloat16."""
    fast = event.attributes["op"] in ("add", "maximum") and event.reads[0].dtype == event.writes[0].dtype == "bfloat16"
    return _streamed(event, chip, _n(event) / (2 if fast else 1))


@known("documented")
def reciprocal(event: Event, chip: Chip) -> float:
    """max(64, 8N) cycles on Vector (nki/api/nki.api.shared.rst), from v3 on 6N as measured."""
    return _streamed(event, chip, chip.reciprocal_cycles.value * _n(event))


@known("historical")
def local_gather(event: Event, chip: Chip) -> float:
    """150 + n/C cycles for n elements; C = (28 + 4e)/(4e) / min(4/bytes, e), e of them an index."""
    each: int = event.attributes["each"]
    n: int = event.attributes["indices"] * each
    c = (28 + 4 * each) / (4 * each) / min(4 / event.reads[0].dtype.itemsize, each)
    return _streamed(event, chip, n / c)


@known("assumed")
def gather(event: Event, chip: Chip) -> float:
    """150 cycles for each 512 elements gathered, and one an element: the groups are documented, their cost is not."""
    n = event.writes[0].free_size
    return _streamed(event, chip, n + (math.ceil(n / 512) - 1) * chip.gpsimd_start_cycles.value)


@known("documented")
def topk(event: Event, chip: Chip) -> float:
    """4n + K cycles (nki/api/nki/isa/__init__.py, topk)."""
    n: int = event.attributes["n"]
    return (4 * n + event.writes[0].free_size) / ghz(event, chip)


@known("historical")
def aggregate(event: Event, chip: Chip) -> float:
    """max(64, 13 * N/3) cycles for bn_aggr."""
    return _streamed(event, chip, 13 * event.reads[0].free_size / 3)


@known("historical")
def activation(event: Event, chip: Chip) -> float:
    """max(64, N) cycles, and 64 more to read the accumulator out."""
    results = [r for r in event.writes if r.allocation.buffer in ("sbuf", "psum")]
    read_out = chip.min_cycles.value / ghz(event, chip) if len(results) > 1 else 0.0
    return _streamed(event, chip, event.reads[0].free_size) + read_out


@known("historical")
def matmul(event: Event, chip: Chip) -> float:
    """max(min(64, M), N) + 7 cycles, float32 4 max(..) + 14, transposing or of ones 2 max(..) + 7; weights hidden."""
    stationary, moving = event.reads[0], event.reads[1]
    rows: int = event.attributes["rows"]
    n, m = moving.free_size // rows, stationary.free_size // rows
    streams, passes = (chip.fp32_matmul_passes.value, 2) if stationary.dtype == "float32" else (1, 1)
    if event.attributes.get("onezero") or (passes == 2 and event.attributes.get("transpose")):
        streams, passes = streams / 2, 1
    cycles = streams * max(min(chip.min_cycles.value, m), n) + passes * chip.matmul_extra_cycles.value
    return cycles / chip.tensor_ghz.value


@known("historical")
def transpose(event: Event, chip: Chip) -> float:
    """Tensor: max(P, min(64, F)) + 7 cycles, of float32 twice max(..); Vector: max(64, N)."""
    data = event.reads[0]
    if event.engine == "tensor":
        # Of float32 one pass and not two as a matmul's (nki/guides/architecture/trainium2_arch.rst, transpose mode); in
        # the profiles of launch_ns of the chip 128 columns take 109 ns, of bfloat16 55.
        streams = 2 if data.dtype == "float32" else 1
        cycles = streams * max(data.shape[0], min(chip.min_cycles.value, data.free_size))
        return (cycles + chip.matmul_extra_cycles.value) / chip.tensor_ghz.value
    return _streamed(event, chip, data.free_size)


@known("documented")
def dma(event: Event, chip: Chip) -> float:
    """A ring's descriptors, each a fixed time and bytes / rate; transposes: blocks, at 90 % of it, in SBUF at 50 %."""
    if event.op == "dma_transpose":
        share = 0.5 if event.reads[0].allocation.buffer == "sbuf" else 0.9
        return transposed(event.writes[0], chip).busy_ns(chip, share)
    if not event.reads or not event.writes:
        return 0.0
    return descriptors(event.reads, event.writes, chip).busy_ns(chip)


@known("documented")
def dma_compute(event: Event, chip: Chip) -> float:
    """Bytes read over all rings' rate: the sum of two operands takes twice as long as a copy."""
    # "50 % DMA throughput" beside a copy's, in nki/guides/architecture/trainium3_arch.rst, SBUF Read-Add-Write: what is
    # added comes at half the rate, because the DMA engine reads both. v4's faster way in SBUF has no API there.
    return sum(r.nbytes for r in event.reads) / chip.dma_gb_per_s.value


@known("assumed")
def free(event: Event, chip: Chip) -> float:
    """0: none is documented, neither for register operations nor for waiting."""
    return 0.0


@known("assumed")
def barrier(event: Event, chip: Chip) -> float:
    """598 ns: none is documented, and that was measured of a decode kernel (barrier_ns of the chip)."""
    return chip.barrier_ns.value


@known("assumed")
def collective(event: Event, chip: Chip) -> float:
    """Steps of the algorithm for that size, 1.5 us each, and the bytes a rank sends over its share of NeuronLink."""
    # The algorithms and their sizes are documented (neuron-runtime/explore/intranode-collective-comm.rst), and so are
    # links and latency; that the cores of a device share its links equally, and the two terms' sum, are assumed.
    n = len(event.attributes["ranks"])
    size = max(sum(r.nbytes for r in event.reads), sum(r.nbytes for r in event.writes))
    if n == 1:
        return size / chip.dma_gb_per_s.value
    share = chip.neuronlink_gb_per_s.value / chip.cores_per_device.value * (2 if event.attributes["joint"] else 1)
    moved: int = event.attributes["moved"]
    return _steps(event.op, n, size, chip) * chip.collective_step_ns.value + moved / share


def _steps(op: str, ranks: int, size: int, chip: Chip) -> float:
    """How often data hops in turn: over a mesh, by recursive doubling and halving, or around a ring of every other."""
    if "permute" in op:
        return 1.0
    if size < chip.mesh_bytes.value or "to_all" in op:
        steps = 2.0
    elif size < chip.halving_bytes.value:
        steps = math.log2(ranks) + 1
    else:
        steps = ranks / 2
    return 2 * steps if op == "all_reduce" else steps
