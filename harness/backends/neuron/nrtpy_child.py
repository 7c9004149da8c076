"""Runs and times one NEFF in the environment of nrtpy, which is not ours: it imports nothing but NumPy and nrtpy.

    python nrtpy_child.py REQUEST ANSWER

Both are JSON. Arrays lie beside them as raw bytes, because this environment may not know their dtypes. The device's
clock is `NrtpyModel.benchmark(mode="device")` (neuron-runtime/nrtpy/model.rst of SDK 2.32).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    del sys.path[0]  # the folder of this file, whose names are not for nrtpy
    request, answer = (Path(word) for word in sys.argv[1:])
    try:
        found = timed(json.loads(request.read_text()), answer.parent)
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"}
    answer.write_text(json.dumps(found))


def timed(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Warm up, take samples, and run once more for the outputs."""
    from nrtpy import NrtpyModel  # type: ignore[import-not-found]  # of that environment

    model = NrtpyModel.load_from_neff(request["neff"], core_id=0)
    names = input_names(list(model.input_tensors_info), request["inputs"])
    inputs = tensors(names, request["inputs"])
    warmups = 0
    start = time.perf_counter()
    while warmups < 2 or time.perf_counter() - start < request["warmup_s"]:
        model(inputs=inputs)
        warmups += 1
    host_ms = min(model.benchmark(inputs=inputs, warmup_iter=1, benchmark_iter=5, mode="host").durations_ms)
    count = round(request["seconds"] * 1e3 / max(host_ms, 1e-3))
    count = max(request["fewest"], min(request["most"], count))
    device = model.benchmark(inputs=inputs, warmup_iter=2, benchmark_iter=count, mode="device")
    host = model.benchmark(inputs=inputs, warmup_iter=2, benchmark_iter=min(count, 100), mode="host")
    fresh = tensors(names, request["inputs"])  # a kernel may have changed the others
    outputs = model(inputs=fresh)
    return {
        "iterations": count,
        "durations_ms": [float(ms) for ms in device.durations_ms],
        "host_ms": [float(ms) for ms in host.durations_ms],
        "warmups": warmups,
        "outputs": [kept(folder / f"out{i}", name, outputs[name]) for i, name in enumerate(sorted(outputs, key=order))],
        "changed": [kept(folder / f"in{i}", name, fresh[name]) for i, name in enumerate(names)],
    }


def input_names(known: list[str], given: list[dict[str, Any]]) -> list[str]:
    """The model's name of each input: the parameter's, or the one in its place where all are called otherwise."""
    wanted = [one["name"] for one in given]
    if set(wanted) == set(known):
        return wanted
    if len(wanted) == len(known) and not set(wanted) & set(known):
        return known
    raise ValueError(f"the NEFF has the inputs {', '.join(known)}, and the kernel's arrays are {', '.join(wanted)}")


def tensors(names: list[str], given: list[dict[str, Any]]) -> dict[str, Any]:
    import numpy as np
    from nrtpy import NrtpyTensor

    found = {}
    for name, one in zip(names, given, strict=True):
        array = np.fromfile(one["file"], dtype=one["stored_as"]).reshape(one["shape"])
        found[name] = NrtpyTensor.from_numpy(array, name=name)
    return found


def order(name: str) -> tuple[int, str]:
    """Outputs are called output_0, output_1 and so on, as the kernel returns them."""
    number = name.rpartition("_")[2]
    return (int(number) if number.isdecimal() else 0), name


def kept(path: Path, name: str, tensor: Any) -> dict[str, Any]:
    array = tensor.numpy()
    array.tofile(path)
    return {"name": name, "file": str(path), "nbytes": array.nbytes}


if __name__ == "__main__":
    main()
