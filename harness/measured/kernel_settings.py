"""A float32 matmul in all sizes of its blocks on one physical core of Trn2, and AWS's four steps of it at 2048.

Participants of a hackathon ran AWS's blocked matmul, and the steps before it, with one physical core in a logical one,
checked each against NumPy and profiled it with neuron-explorer, two or three times (SDK 2.32). Of the blocks it is our
kernel that stands for theirs, which sums in the dtype of its output, float32 here. Their profiles say how many bytes
DMA moved: the 154 times below moved what the program asks for to the byte, or, 12 of K = 256, less, because the
compiler left out loads of what was there. Left out are 75 that moved up to 16 times as much: they do not fit in SBUF,
and what the compiler spilled is not in the program.
"""

from __future__ import annotations

from triptych.harness.measured.records import Call, InFile, Ours, Point, Tensor
from triptych.harness.measured.sources import SDK

_KERNEL = Ours("product_in_blocks", "products.py")
_REPOSITORY = "yahavb/trainium-agent-labs"
_TUNED = f"{_REPOSITORY}@815b8833 and 11f41b02 projects/skywalker-kerneltune/results"
_SETTINGS = f"{_REPOSITORY}@e390f639 projects/seats-205-209-kernel-settings-loop/results"
_STEPS = f"{_REPOSITORY}@37046620 projects/skywalker-kernel-settings-loop/results/tutorial_matmul_sweep_2048.json"
_EXAMPLES = "nki/examples/matrix_multiplication/matrix_multiplication_nki_kernels.py"
_NOTE = "AWS's file as its documentation has it now; which release of it was profiled is not said."

# By K, M and N and by the tiles of M and of N in a block: microseconds by the tiles of K.
_TIMES: dict[tuple[int, int, int], dict[tuple[int, int], dict[int, float]]] = {
    (2048, 2048, 2048): {
        (1, 1): {1: 1209.3, 2: 1118.1, 4: 1187.2, 8: 1113.2, 16: 1036.8},
        (1, 2): {1: 1074.9, 2: 1004.0, 4: 963.3, 8: 947.7, 16: 920.4},
        (1, 4): {1: 931.2, 2: 916.1, 4: 913.8, 8: 905.2},
        (2, 1): {1: 969.1, 2: 957.3, 4: 942.1, 8: 954.0, 16: 939.5},
        (2, 2): {1: 929.0, 2: 943.8, 4: 918.0, 8: 907.7, 16: 914.3},
        (2, 4): {1: 926.6, 2: 916.6, 4: 906.6, 8: 906.2},
        (4, 1): {1: 911.2, 2: 926.7, 4: 913.5, 8: 912.4, 16: 917.0},
        (4, 2): {1: 918.5, 2: 910.0, 4: 904.7, 8: 905.2, 16: 905.2},
        (4, 4): {1: 932.7, 2: 914.7, 4: 907.0},
        (8, 1): {1: 911.6, 2: 911.7, 4: 913.6, 8: 915.0, 16: 924.6},
        (8, 2): {1: 927.3, 2: 909.1, 4: 904.8, 8: 906.0, 16: 905.1},
        (8, 4): {1: 938.8, 2: 924.2, 4: 906.5},
        (16, 1): {1: 911.9, 2: 909.7, 4: 936.0, 8: 914.9, 16: 907.0},
        (16, 2): {1: 930.7, 2: 919.6, 4: 909.2, 8: 905.5},
        (16, 4): {1: 952.7, 2: 930.6, 4: 919.8},
    },
    (256, 4096, 12288): {
        (1, 1): {1: 1629.2, 2: 1785.4},
        (1, 2): {1: 1572.2, 2: 1381.4},
        (1, 3): {1: 1777.6, 2: 1460.8},
        (2, 1): {1: 1546.7, 2: 1361.0},
        (2, 2): {1: 1554.7, 2: 1380.0},
        (2, 3): {1: 1650.8, 2: 1467.0},
        (4, 1): {1: 1494.2, 2: 1360.9},
        (4, 2): {1: 1540.7, 2: 1432.3},
        (4, 3): {1: 1677.8},
        (8, 1): {1: 1498.1, 2: 1481.7},
        (8, 2): {1: 1592.3, 2: 1559.8},
        (8, 3): {1: 1724.9},
        (16, 1): {1: 1497.2, 2: 1586.1},
        (16, 2): {1: 1650.8, 2: 1495.6},
        (16, 3): {1: 1875.6},
        (32, 1): {1: 1494.9, 2: 1501.4},
        (32, 2): {1: 1653.0, 2: 1534.3},
    },
    (4096, 512, 4096): {
        (1, 1): {1: 1075.3},
        (1, 2): {1: 945.6},
        (1, 4): {2: 913.9},
        (1, 8): {4: 910.8},
        (2, 4): {8: 906.3},
        (4, 4): {8: 906.2, 16: 906.6},
    },
    (4096, 512, 1024): {
        (1, 1): {1: 321.4, 2: 297.2},
        (1, 2): {1: 279.4, 2: 268.5, 4: 266.3},
        (2, 1): {8: 254.2, 32: 247.2},
        (2, 2): {16: 245.0},
    },
    (4096, 512, 12288): {
        (1, 1): {1: 3117.5, 2: 2965.2, 32: 2932.6},
        (1, 2): {1: 2702.0, 2: 2701.9, 16: 2723.9, 32: 2683.5},
        (1, 3): {1: 2667.6, 8: 2670.7, 16: 2667.1},
        (1, 4): {1: 2668.7},
        (1, 6): {1: 2685.9, 2: 2672.3, 8: 2667.7},
        (1, 8): {2: 2667.2},
        (1, 12): {4: 2675.5},
        (2, 1): {2: 2691.4, 16: 2755.2},
        (2, 2): {2: 2677.3, 4: 2678.0},
        (2, 3): {1: 2696.3},
        (2, 4): {1: 2674.1, 8: 2665.6, 16: 2666.2},
        (2, 6): {2: 2669.4, 4: 2669.7},
        (2, 8): {2: 2668.0},
        (4, 1): {1: 2676.9},
        (4, 2): {2: 2673.0},
        (4, 3): {1: 2692.5, 2: 2669.5},
        (4, 4): {8: 2663.6, 16: 2665.5},
        (4, 6): {1: 2706.2},
        (4, 8): {2: 2682.0},
    },
    (12288, 512, 4096): {
        (1, 1): {1: 3029.1},
        (1, 2): {1: 2702.3},
        (1, 4): {1: 2664.7},
        (1, 8): {2: 2668.5, 8: 2668.5},
        (2, 4): {2: 2665.4},
        (2, 8): {4: 2668.2},
    },
}


def _operands(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    length, rows, columns = shape
    return Tensor("float32", (length, rows)), Tensor("float32", (length, columns))


def _case(shape: tuple[int, int, int]) -> str:
    length, rows, columns = shape
    return f"{rows}x{length} @ {length}x{columns} float32"


def _blocks(shape: tuple[int, int, int], blocks: tuple[int, int, int], us: float) -> Point:
    name = "2048" if len(set(shape)) == 1 else "K{}_M{}_N{}".format(*shape)
    folder = _SETTINGS if shape[:2] == (4096, 512) and shape[2] != 1024 else _TUNED
    return Point(
        Call(_KERNEL, "trn2", (*_operands(shape), *blocks)),
        f"{_case(shape)}, {' x '.join(map(str, blocks))} tiles",
        us,
        f"{us:.1f} us, median",
        f"{folder}, grid_{name}.jsonl",
        "C",
        "validation",
        "total in a sweep",
    )


def _step(name: str, us: float) -> Point:
    shape = (2048, 2048, 2048)
    call = Call(InFile(SDK, _EXAMPLES, f"nki_matmul_{name}_"), "trn2", _operands(shape))
    return Point(call, _case(shape), us, f"{us:.1f} us, median of 3", _STEPS, "B", "validation", note=_NOTE)


STEPS_POINTS = (
    _step("tiled", 1258.6),
    _step("hoist_load", 1093.2),
    _step("block_free_dimension", 1019.6),
    _step("fully_optimized", 905.8),
)
SWEEP_POINTS = tuple(
    _blocks(shape, (m, n, k), us)
    for shape, blocks in _TIMES.items()
    for (m, n), times in blocks.items()
    for k, us in times.items()
)
