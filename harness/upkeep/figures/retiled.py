"""Our own kernels with other tiles, blocks and exponentials: as right as before, and none may be rejected.

Each is the kernel's text with a few stretches replaced, as a `mutation.Mutant`, which `mutant_runs` can run.
"""

from __future__ import annotations

from pathlib import Path

from triptych.harness.upkeep.figures.mutation import Mutant

ROOT = Path(__file__).resolve().parents[3]

Changes = tuple[tuple[str, str], ...]

_TRITON_BLOCKS = 'block_m, block_n, block_k = row["BLOCK_M"], row["BLOCK_N"], row["BLOCK_K"]'
_TRITON_QUERIES = "block_m = min(block_m, max(16, triton.next_power_of_2(Sq)))"
_TRITON_KEYS = "block_n = min(block_n, max(16, triton.next_power_of_2(Sk)))"

CHANGES: dict[str, dict[str, Changes]] = {
    "kernels/nki/matmul.py": {
        "K in blocks of 256": (("MOST_K = 4096", "MOST_K = 512"),),
        "panels of 512 rows": (("PANEL = 1024", "PANEL = 512"),),
        "blocks of 512 columns": (("COLUMNS = 2  #", "COLUMNS = 1  #"),),
        "turns of one tile": (("size = (tiles - 1) % most + 1", "size = 1"),),
    },
    "kernels/nki/attention.py": {
        "one bank an exponential": (("return 2, 3, 0 if alone else 4", "return 1, 4, 0"),),
        "nothing resident": (("RESIDENT = 128 * 1024", "RESIDENT = 0"),),
        "everything again": (("LEAST, MOST = 2.0**-12, 2.0**90", "LEAST, MOST = 2.0**90, 2.0**90"),),
    },
    "kernels/nki/attention_online.py": {
        "128 keys a block": (("KEY_BLOCK = 1024", "KEY_BLOCK = 128"),),
        "512 keys a block": (("KEY_BLOCK = 1024", "KEY_BLOCK = 512"),),
        "one tile of queries a group": (("TILES_IN_GROUP = 8", "TILES_IN_GROUP = 1"),),
    },
    "kernels/triton/matmul.py": {
        "tiles of 32 x 32 x 32": ((_TRITON_BLOCKS, "block_m, block_n, block_k = 32, 32, 32"),),
        "tiles of 32 x 64 x 128": ((_TRITON_BLOCKS, "block_m, block_n, block_k = 32, 64, 128"),),
    },
    "kernels/triton/attention.py": {
        "64 queries, 32 keys": ((_TRITON_QUERIES, "block_m = 64"), (_TRITON_KEYS, "block_n = 32")),
        "32 queries, 128 keys": ((_TRITON_QUERIES, "block_m = 32"), (_TRITON_KEYS, "block_n = 128")),
        "exp instead of exp2": (("tl.exp2(", "tl.exp("), ("tl.log2(", "tl.log("), ("math.log2(math.e)", "1.0")),
    },
}


def retiled(path: Path) -> list[Mutant]:
    """The variants of one kernel file; ValueError if the file no longer has what a change replaces."""
    text = path.read_text(encoding="utf-8")
    variants = []
    for name, changes in CHANGES[str(path.relative_to(ROOT))].items():
        source = text
        for before, after in changes:
            if before not in source:
                raise ValueError(f"{path} has no {before!r} any more, which the variant {name!r} replaces")
            source = source.replace(before, after)
        variants.append(Mutant(path, 0, "", name, source))
    return variants
