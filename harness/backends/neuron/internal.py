"""The one place that calls internals of AWS's nki, 0.6 and 0.7: its standalone kernel, which can time itself.

It runs where nki is installed and no environment with nrtpy is named. These names have moved between versions, so that
the version stands in the timer of whatever is measured by them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MODULE, CLASS = "nki.framework.compiled", "StandaloneKernel"


class Moved(Exception):
    """This nki has them under other names; one sentence."""


def samples(
    kernel: Any,
    positional: Sequence[Any],
    named: Mapping[str, Any],
    *,
    folder: str,
    target: str,
    request: Mapping[str, Any],
) -> dict[str, Any]:
    """Samples in milliseconds, warm-ups, outputs, of a kernel that is compiled anew into an empty folder.

    Raises Moved where this nki does not have the names.
    """
    import importlib

    try:
        standalone = getattr(importlib.import_module(MODULE), CLASS)
        convert: Callable[..., Any] = kernel._to_subclass
    except (ImportError, AttributeError) as error:
        raise Moved(f"this nki has no {MODULE}.{CLASS} as 0.6 and 0.7 have it ({error})") from error
    found: dict[str, Any] = {}

    def execute(compiled: Any, inputs: Mapping[str, Any], outputs: Any) -> Any:
        warmups = 0
        start = time.perf_counter()
        while warmups == 0 or time.perf_counter() - start < request["warmup_s"]:
            last = compiled.benchmark(warmup=0, iterations=1, **inputs)
            warmups += 1
        taken: list[float] = []
        start = time.perf_counter()
        while len(taken) < request["fewest"] or (
            len(taken) < request["most"] and time.perf_counter() - start < request["seconds"]
        ):
            last = compiled.benchmark(warmup=0, iterations=1, **inputs)
            taken.append(float(last.latency) * 1e3)
        found.update(durations_ms=taken, iterations=len(taken), warmups=warmups, outputs=last.outputs)
        return last.outputs

    convert(standalone, _executor=execute, target=target, lnc=getattr(kernel, "lnc", 1), artifacts_dir=folder)(
        *positional, **named
    )
    return found
