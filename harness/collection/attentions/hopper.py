"""`attention` once more, by a kernel for Hopper alone: a row of its own, because no GPU has confirmed it yet."""

from __future__ import annotations

from typing import Any

from triptych.harness.collection import llama
from triptych.harness.collection.attentions import forward
from triptych.harness.collection.attentions.forward import row, sizes
from triptych.harness.ops.case import Case
from triptych.harness.ops.regimes import HARD

D = 128  # of the kernel's heads
HOPPER = "cuda 90"


def unsupported(case: Case, backend: str, target: str) -> str | None:
    if backend not in ("triton", "triton-cpu"):
        return forward.unsupported(case, backend, target)
    if case.axes["D"] != D or 0 in case.axes.values():
        return f"the kernel takes heads of {D} numbers, and no empty tensor"
    import triton

    if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 9):
        return f"the kernel is written in the Gluon of Triton 3.9, and here is Triton {triton.__version__}"
    gpu = gpu_of_triton() if backend == "triton" else HOPPER
    return None if gpu == HOPPER else f"the kernel is for Hopper, {HOPPER}, and Triton's driver has {gpu}"


def gpu_of_triton() -> str:
    """What Triton's driver is for, as "cuda 90"; it may pretend."""
    import triton

    try:
        target = triton.runtime.driver.active.get_current_target()
    except RuntimeError:
        return "no GPU"
    return f"{target.backend} {target.arch}"


def prefills(long: bool) -> list[dict[str, Any]]:
    """Of the models whose heads have as many numbers."""
    return [case for case in llama.attentions(long) if case["D"] == D and "prefill" in case["name"]]


OPS = (
    row(
        "attention_hopper",
        "for Hopper alone, D = 128",
        cases={
            "smoke": [sizes(2, 1, 70, 200, D, True), sizes(1, 1, 130, 300, D, False)],
            "edge": [
                sizes(1, 1, 1, 1, D, True),
                sizes(1, 1, 63, 127, D, False),
                sizes(1, 1, 64, 128, D, True),
                sizes(1, 1, 65, 129, D, True),
                sizes(1, 1, 127, 128, D, False),
                sizes(1, 1, 128, 260, D, True),
                sizes(2, 2, 129, 513, D, True),
                sizes(1, 1, 300, 140, D, True),
            ],
            "adversarial": [sizes(1, 1, 67, 150, D, causal, regime) for regime in HARD for causal in (True, False)],
            "model": prefills(long=False),
            "model-long": prefills(long=True),
        },
        tiles={"Sq": (64, 128), "Sk": (128,)},  # rows of a group and of a program, keys of a tile
        limits={"D": D},
        dtypes=("bfloat16", "float16"),
        strict_nonfinite=False,  # a value at a weight of 0 is multiplied by it
        nki=None,
        triton=f"{forward.KERNELS / 'triton' / 'attention_hopper.py'}:attention_hopper",
        unsupported=unsupported,
    ),
)
