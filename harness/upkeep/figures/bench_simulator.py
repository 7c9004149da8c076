"""How fast the simulator is: its time over NumPy's for the same result, on one core.

    python -m triptych.harness.upkeep.figures.bench_simulator [--against CHECKOUT] [--only WORDS]

Each simulated kernel and NumPy's way to its result run in turn, A B A B, so that the machine's drift hits both; what is
printed is the median of the ratios pair by pair, with the range of the middle half. Times are processor times. With
another checkout of this project the same works run there in between, with its own kernels, and its ratios stand beside
ours.

Settings of the matrix library that change how fast NumPy is are taken out of the environment, and named.

Behind them stands how fast kernels are traced that nobody could compute here, with shapes in place of arrays, and how
much memory a trace takes.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import triptych
from triptych.harness.one_thread import ONE_THREAD
from triptych.harness.results import environment

PAIRS = 15
WORKS = Path(__file__).with_name("bench_simulator_works.py")
SOURCE = Path(triptych.__file__).parents[1]
KERNELS = Path(__file__).parents[3] / "kernels" / "nki"
LIBRARIES = ("OPENBLAS_", "MKL_", "BLIS_", "GOTO_")


def main() -> int:
    """Print one line per work and dtype."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--against", type=Path, help="another checkout of this project")
    parser.add_argument("--only", default="", help="works whose name holds this")
    options = parser.parse_args()
    settings = {k: v for k, v in os.environ.items() if k.startswith(LIBRARIES) and k not in ONE_THREAD}
    kept = {k: v for k, v in os.environ.items() if k not in settings} | ONE_THREAD
    sides = [Side(SOURCE, kept)]
    if options.against:
        sides.append(Side(options.against / "src", kept))
    numpy_version, python = environment.version("numpy"), platform.python_version()
    print(f"{environment.cpu()}, one core, Python {python}, NumPy {numpy_version}; median of {PAIRS} pairs")
    if settings:
        print(f"not used: {', '.join(f'{k}={v}' for k, v in sorted(settings.items()))}")
    before = f" {'before':>7}" if options.against else ""
    print(f"{'work':<32} {'dtype':<9} {'simulated':>11} {'NumPy':>10} {'ratio':>6}{before}  middle half  instructions")
    for index, (name, dtype) in enumerate(sides[0].names):
        if options.only in name:
            print(row(name, dtype, index, [side for side in sides if index < len(side.names)]), flush=True)
    for side in sides:
        side.end()
    _trace_shapes()
    return 0


class Side:
    """A process that runs the works against one checkout's simulator."""

    def __init__(self, source: Path, settings: dict[str, str]) -> None:
        command = [sys.executable, str(WORKS)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**settings, "PYTHONPATH": str(source)},
        )
        self.names = [tuple(line.split("|")) for line in self._line().split(";")]

    def run(self, index: int) -> tuple[float, float, int]:
        """Seconds of a simulated run and of NumPy's, and how many instructions there were."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{index}\n")
        self.process.stdin.flush()
        ours, theirs, events = self._line().split()
        return float(ours), float(theirs), int(events)

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the works ended with {self.process.wait()}; what they said stands above")
        return line.strip()


def row(name: str, dtype: str, index: int, sides: list[Side]) -> str:
    """One work on all sides, in turn."""
    for side in sides:
        side.run(index)
    runs = [[side.run(index) for side in sides] for _ in range(PAIRS)]
    ours, theirs = ([run[0][at] for run in runs] for at in (0, 1))
    ratios = [sorted(run[at][0] / run[at][1] for run in runs) for at in range(len(sides))]
    low, _, high = statistics.quantiles(ratios[0], n=4)
    ms = 1e3 * statistics.median(ours), 1e3 * statistics.median(theirs)
    others = "".join(f" {statistics.median(other):>7.2f}" for other in ratios[1:])
    return (
        f"{name:<32} {dtype:<9} {ms[0]:>8.1f} ms {ms[1]:>7.1f} ms {statistics.median(ratios[0]):>6.2f}{others}  "
        f"{low:.2f}-{high:.2f}    {runs[0][0][2]:>6}"
    )


def _trace_shapes() -> None:
    """Print one line per kernel that is too large to compute."""
    from triptych import simulator
    from triptych.simulator import ShapeDtype

    def square(n: int) -> tuple[Any, ...]:
        return tuple(ShapeDtype((n, n), "bfloat16") for _ in range(2))

    def heads(queries: int, keys: int) -> tuple[Any, ...]:
        return tuple(ShapeDtype((1, 1, n, 128), "bfloat16") for n in (queries, keys, keys))

    matmul = simulator.load(KERNELS / "matmul.py").matmul
    attention = simulator.load(KERNELS / "attention_online.py").attention_online
    print(f"\n{'without data':<40} {'traced in':>10} {'instructions':>13} {'a second':>9} {'bytes each':>11}")
    for name, kernel, large, small in (
        ("matmul 16384 x 16384 x 16384", matmul, square(16384), square(4096)),
        ("attention 1 head 4096 of 131072 x 128", attention, heads(4096, 131072), heads(1024, 16384)),
    ):
        simulator.run(kernel, *small, target="trn2")  # what is made once, as the linter's trees, is not the trace's
        tracemalloc.start()
        trace = simulator.run(kernel, *small, target="trn2").trace
        each = tracemalloc.get_traced_memory()[0] / len(trace.events)
        tracemalloc.stop()
        start = time.process_time()
        events = len(simulator.run(kernel, *large, target="trn2").trace.events)
        seconds = time.process_time() - start
        print(f"{name:<40} {seconds:>8.1f} s {events:>13} {events / seconds:>9.0f} {each:>11.0f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
