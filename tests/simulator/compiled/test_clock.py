"""The clock in C tells the same times as the one in Python, and the same reasons, of drawn programs and of kernels."""

from __future__ import annotations

import random
from unittest.mock import Mock

import numpy as np
import pytest

from triptych.harness.collection import builtin
from triptych.harness.ops.selection import Selection
from triptych.harness.profiling.subjects import of_ops
from triptych.harness.profiling.tracing import traced
from triptych.simulator import KernelError
from triptych.simulator.chips import chip_of
from triptych.simulator.timing import arrays, schedule
from triptych.simulator.timing.clock import Clock, TooLate
from triptych.simulator.timing.prediction import with_settings
from triptych.simulator.timing.program import Ask, Label, Line, Program
from triptych.simulator.timing.room import Tenants
from triptych.simulator.timing.work import Works
from triptych.simulator.trace import Event, Trace

pytestmark = pytest.mark.skipif(
    arrays.CLOCK is None, reason="nothing is compiled: no C compiler was there, or TRIPTYCH_COMPILED=0"
)
NAMES = sorted(name for name, op in builtin().items() if op.nki is not None)
TRACKS = ("dma by gpsimd", "dma by scalar", "gpsimd", "scalar", "tensor", "vector")
ISSUERS = {"gpsimd": 0, "scalar": 1, "tensor": 2, "vector": 3, "dma by gpsimd": 4, "dma by scalar": 1}


def run(program, order, *given):
    end, spans, plan = arrays.Runs(program).run(np.array(order), *given)
    found = spans()
    assert end == max(span.end_ns for span in found)
    return found, [numbers.tolist() for numbers in plan()]


def both(run, *given):
    """What a run gives or raises, in C and in Python."""
    found = []
    for clock in (arrays.CLOCK, None):
        with pytest.MonkeyPatch.context() as m:
            m.setattr(arrays, "CLOCK", clock)
            try:
                found.append(run(*given))
            except (KernelError, TooLate) as error:
                found.append((type(error), str(error)))
    return found


def drawn(rng):
    """A program whose times are so few that much happens at once, and whose memories are too small at times."""
    chip, cores = chip_of(rng.choice(["trn1", "inf2", "trn2", "trn3"])), rng.choice([1, 2])

    def ns():
        return rng.choice([0.0, 50.0, 100.0, 64 / 2.4, 3500.0 * rng.random()])

    asks, labels, lines, of_core = [], [], [], []
    for core in range(cores):
        mine = []
        for track in TRACKS:
            moves, number = track.startswith("dma"), len(lines)
            lines.append(Line(core, 5 * core + ISSUERS[track], moves, track == "tensor"))
            for _ in range(rng.choice([1, 2])):
                first, port = rng.randrange(16) if moves else 0, rng.choice([0, 1, 2]) if "r" in track[1:] else 0
                behind = rng.randint(first + 1, 16) if moves else 0
                busy, multiplies = ns(), track == "tensor" and rng.random() < 0.8
                cells = rng.choice([0, 0, 0xFFFF, 0x0033, 0x1000]) if track == "tensor" else 0
                same = [number for number in mine if labels[number].track in ("gpsimd", "scalar")]
                elsewhere = (
                    tuple(rng.sample(same, min(2, len(same)))) if track == "vector" and rng.random() < 0.7 else ()
                )
                if len({asks[other].queue for other in elsewhere}) < len(elsewhere):
                    elsewhere = elsewhere[:1]
                mine.append(len(asks))
                asks.append(
                    Ask(busy, ns(), ns(), ns(), busy, number, first, behind, port, cells, multiplies, elsewhere)
                )
                labels.append(Label(core, "dma" if moves else track, behind - first))
        of_core.append(mine)
    places = rng.sample(range(len(asks)), len(asks))  # in no order, as a trace has them
    asks, labels = ([of[place] for place in places] for of in (asks, labels))
    asks = [ask._replace(elsewhere=tuple(map(places.index, ask.elsewhere))) for ask in asks]
    of_core = [list(map(places.index, mine)) for mine in of_core]
    n, sizes = rng.randint(1, 120), [rng.choice([*range(1, 6), *range(1, 6), 9, 1 << 33]) for _ in range(30)]
    of_event = [sorted(rng.sample(range(i // 5, i // 5 + 4), rng.randint(0, 2))) for i in range(n)]
    reasons = [why for why in arrays.WHYS if why in ("data", "overwrite", "order", "meeting")]
    waits = [{max(0, i - rng.randint(1, 9)): rng.choice(reasons) for _ in range(rng.randint(0, 3))} for i in range(n)]
    waits[0] = {}
    events = [Event("op", "vector", (), (), ("k.py", i), 0, None, {}) for i in range(n)]
    room = rng.choice([[12, 8], [40, 30], [1 << 36, 1 << 36]])
    tenants = Tenants(of_event, sizes, [rng.randrange(2) for _ in sizes], [(0, "sbuf"), (0, "psum")], room)
    launch, free = rng.choice([0.0, 1000.0]), [rng.choice([0.0, 1300.0]) for _ in range(5 * cores)]
    asked = [rng.choice(rng.choice(of_core)) for _ in range(n)]
    window = rng.choice([0, 300, chip.warm_up_ns.value])  # in which Tensor's clock is decided on; none without one
    trace = Trace(with_settings(chip, {"warm_up_ns": window}), "", events)
    return Program(
        trace, Works([], [], asked), waits, tenants, asked, asks, labels, lines, free, cores, launch, 64 / 2.4
    )


@pytest.mark.parametrize("seed", range(8))
def test_drawn_programs_run_alike(seed, monkeypatch):
    """And none is run in Python beside, but for those that wait for room that never comes, since Python says so."""
    in_python = Mock(wraps=Clock)
    monkeypatch.setattr(arrays, "Clock", in_python)

    def runs_alike(*given):
        in_python.reset_mock()
        compiled, expected = both(run, *given)
        assert compiled == expected
        assert in_python.call_count == (2 if expected[0] is KernelError else 1)
        return compiled

    rng, ended, taken_over = random.Random(seed), 0, 0
    for _ in range(100):
        program = drawn(rng)
        order = list(range(len(program.asked)))
        if rng.random() < 0.5:
            order.sort(key=lambda event: event + rng.randint(0, 6))
        in_order = rng.random() < 0.5
        spans, plan = runs_alike(program, order, in_order)
        if isinstance(spans, list):
            ended += 1
            taken_over += plan[1] != program.asked  # another engine than Vector had time
            runs_alike(program, order, in_order, max(span.end_ns for span in spans) * rng.choice([0.3, 0.9, 1.0]))
    assert ended > 20 and taken_over > 2


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
@pytest.mark.parametrize("name", NAMES)
def test_kernels_have_one_timeline(name):
    for target in ("trn1", "trn2", "trn3"):
        subject = of_ops([builtin()[name]], Selection(sets=["smoke"]), {})[0]
        if subject.unsupported(target) is None:
            trace = traced(subject, target)
            for order in ("overlapped", "program"):
                compiled, in_python = both(schedule, trace, order)
                assert compiled.spans == in_python.spans and compiled.total_ns == in_python.total_ns


def test_arrays_of_another_layout_are_refused(monkeypatch):
    program = drawn(random.Random(0))
    monkeypatch.setattr(arrays, "TIMES", arrays.np.dtype([*arrays.TIMES.descr, ("more", arrays.np.double)]))
    monkeypatch.setattr(arrays, "_times", lambda *given: arrays.np.zeros(1, arrays.TIMES))
    with pytest.raises(TypeError, match="the rows of an array are of another size"):
        run(program, range(len(program.asked)), True)
