"""Programs drawn at random, in which what a schedule knows meets: engines, queues, room, ports, tiles and cores."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from triptych import simulator
from triptych.simulator import Options, ShapeDtype, Trace
from triptych.simulator.chip.record import Chip
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

OPTIONS = Options(check_uninitialized=False, check_capacity=False, check_races=False)
ROUND = {  # of a chip on which much happens at the same moment
    "tensor_ghz": 1, "vector_ghz": 1, "scalar_ghz": 1, "gpsimd_ghz": 1,
    "access_cycles": 64, "operand_cycles": 64, "scalar_operand_cycles": 64, "scalar_sbuf_cycles": 0,
    "matmul_extra_cycles": 0, "gpsimd_start_cycles": 64, "table_load_ns": 128,
    "tensor_latency_ns": 64, "vector_latency_ns": 64, "scalar_latency_ns": 128, "gpsimd_latency_ns": 64,
    "barrier_ns": 64, "warm_up_ns": 1024, "dma_gb_per_s": 16 * 16, "dma_descriptor_ns": 8,
    "dma_issue_ns": 64, "dma_software_issue_ns": 128, "dma_static_issue_ns": 64,
    "dma_start_ns": 128, "dma_hardware_start_ns": 256, "dma_skew_ns": 64, "dma_end_ns": 64,
    "launch_ns": 1024, "gpsimd_launch_ns": 192, "teardown_ns": 0,
}  # fmt: skip


def on(chip: Chip, **values: float) -> Chip:
    """A chip with other numbers."""
    return dataclasses.replace(chip, **{k: dataclasses.replace(getattr(chip, k), value=v) for k, v in values.items()})


def drawn(seed: int) -> Trace:
    """The trace of a program, on a chip that may be round and whose memories may be small."""
    rng = random.Random(seed)
    cores = 2 if rng.random() < 0.3 else 1
    target = "trn2" if cores == 2 else rng.choice(("trn1", "trn2", "trn2", "trn3"))
    steps = [steps_of(rng, target, rng.randint(8, 26)) for _ in range(rng.randint(1, 2) if cores == 2 else 1)]
    met = rng.randint(1, 2) if cores == 2 else 0

    def kernel(x: Any) -> Any:
        core = nl.program_id(0) if cores == 2 else 0
        run(steps[core % len(steps)], x, met if cores == 2 else 0, core)
        return x

    kernel_on = simulator.jit(kernel)[cores]
    trace = simulator.run(kernel_on, ShapeDtype((128, 512), "float32"), target=target, options=OPTIONS).trace
    chip = trace.chip
    if rng.random() < 0.6:
        chip = on(chip, **ROUND)
    if rng.random() < 0.2:
        chip = on(chip, launch_ns=0, gpsimd_launch_ns=0, dma_start_ns=0, dma_hardware_start_ns=0)
    if rng.random() < 0.5:
        chip = on(chip, sbuf_partition_bytes=2048 * rng.randint(5, 7))
    return dataclasses.replace(trace, chip=chip)


def steps_of(rng: random.Random, target: str, count: int) -> list[tuple[Any, ...]]:
    engine = nisa.engine.unknown if target == "trn1" or rng.random() < 0.7 else nisa.engine.vector
    ways: list[dict[str, Any]] = [{}, {"dge_mode": nisa.dge_mode.none}]
    if target != "trn1":
        hardware = {"dge_mode": nisa.dge_mode.hwdge}
        ways += [hardware, {"dge_mode": nisa.dge_mode.swdge}]
        ways += [{**hardware, "engine": nisa.engine.scalar}] * rng.choice((0, 2))
    kinds = ["fill", "copy", "copied by", "exp", "add", "load", "store", "part", "matmul", "tiled", "fresh"]
    kinds += rng.choice(([], ["copy"], ["copy to new"] * 20, ["fresh"] * 3))
    heights = (32, 64) if target != "trn1" else (64,)
    return [
        (
            rng.choice(kinds), rng.randrange(4), rng.randrange(4), rng.choice((64, 128, 512)), rng.choice(heights),
            rng.choice(ways), rng.random(), engine,
        )
        for _ in range(count)
    ]  # fmt: skip


def run(steps: list[tuple[Any, ...]], x: Any, met: int, core: int) -> None:
    shared = nl.ndarray((128, 512), nl.float32, nl.shared_hbm)
    hbm = nl.ndarray((128, 512), nl.float32, nl.private_hbm)
    places = [{"address": (0, 2048 * i)} if steps[1][6] < 0.3 else {} for i in range(4)]
    tiles = [nl.ndarray((128, 512), nl.float32, **place) for place in places]
    narrow = nl.ndarray((128, 512), nl.bfloat16)
    for _ in range(int(steps[0][6] * 6)):  # of what nothing wrote, and so from the launch on
        nisa.tensor_copy(nl.ndarray((128, 64), nl.float32), tiles[0][:, 0:64], engine=steps[0][7])
    for i, t in enumerate(tiles):
        nisa.memset(t, float(i), engine=nisa.engine.gpsimd if i == 3 else nisa.engine.vector)
    nisa.memset(narrow, 0.0, engine=nisa.engine.vector)
    meetings = {len(steps) // 3, 2 * len(steps) // 3} if met == 2 else {len(steps) // 2} if met else set()
    for n, (kind, i, j, width, high, way, chance, engine) in enumerate(steps):
        a, b = tiles[i], tiles[j]
        if n in meetings:
            nisa.dma_copy(shared[64 * core : 64 * core + 64, :], b[0:64, :])
            nisa.core_barrier(data=shared, cores=(0, 1), **({"engine": nisa.engine.vector} if chance < 0.3 else {}))
            nisa.dma_copy(a[0:64, 0:64], shared[64 - 64 * core : 128 - 64 * core, 0:64])
        some = slice(0, width)
        if kind == "fill":
            nisa.memset(b[:, some], 1.0, engine=nisa.engine.vector if chance < 0.5 else engine)
        elif kind == "copy":
            nisa.tensor_copy(b[:, some], a[:, some] if chance < 0.7 else narrow[:, some], engine=engine)
        elif kind == "copy to new":
            nisa.tensor_copy(nl.ndarray((128, 512), nl.float32)[:, some], a[:, some], engine=engine)
        elif kind == "copied by":
            nisa.tensor_copy(b[:, some], a[:, some], engine=(nisa.engine.vector, nisa.engine.gpsimd)[int(2 * chance)])
        elif kind == "exp":
            nisa.activation(b[:, some], nl.exp if chance < 0.5 else nl.square, a[:, some])
        elif kind == "add":
            nisa.tensor_tensor(b[:, some], a[:, some], tiles[3][:, some], nl.add, engine=nisa.engine.vector)
        elif kind == "load":
            nisa.dma_copy(b[:, some], (x if chance < 0.5 else hbm)[:, some], **way)
        elif kind == "store":
            nisa.dma_copy(hbm[:, some], a[:, some], **way)
        elif kind == "part":
            rows = slice(32 * j, 32 * j + (8 if chance < 0.5 else 32))
            nisa.dma_copy(b[rows, some], x[rows, some], **way)
        elif kind == "matmul":
            product = nl.ndarray((128, width), nl.float32, nl.psum)
            for k in range(1 + int(3 * chance)):
                nisa.nc_matmul(product, narrow[:, 0:128], narrow[:, some], accumulate=k > 0)
            nisa.tensor_copy(b[:, some], product, engine=engine)
        elif kind == "tiled":
            product = nl.ndarray((128, 512), nl.float32, nl.psum)
            for k in range(1 + int(4 * chance)):
                at = high * (i + k) % 128
                rows = slice(at, at + high)
                tile = {"tile_position": (at, 0), "tile_size": (high, 128)}
                nisa.nc_matmul(product[:, some], narrow[rows, 0:128], narrow[rows, some], **tile)
        else:
            tiles[j] = nl.ndarray((128, 512), nl.float32)
            nisa.dma_copy(tiles[j][:, some], x[:, some], **way)
