"""What tests of the machine that puts off share: all that a run leaves, put off or not, and numbers for it."""

from __future__ import annotations

import numpy as np
from shape_only_parts import story

from triptych import simulator
from triptych.simulator import NkiError, Options
from triptych.simulator.dtypes import TABLE


def outcome(kernel, arrays, defer, target="trn2", **kwargs):
    """All that a run leaves: outputs and arguments bit for bit, the trace, or the error."""
    own = [a.copy() if isinstance(a, np.ndarray) else a for a in arrays]
    try:
        run = simulator.run(kernel, *own, target=target, options=Options(defer=defer), **kwargs)
    except NkiError as error:
        return str(error)
    outputs = run.outputs if isinstance(run.outputs, tuple) else (run.outputs,)
    held = [a.tobytes() for a in (*outputs, *own) if isinstance(a, np.ndarray)]
    numbers = {id(e): n for n, e in enumerate(run.trace.events)}
    told = [[numbers.get(id(e), e) for e in _flat(event)] for event in story(run.trace)]
    return held, told, run.trace.notes


def _flat(event):
    """What is said of an event, item by item."""
    for item in event:
        if isinstance(item, dict):
            yield from item
            yield from _flat(item.values())
        elif type(item) is tuple:
            yield from _flat(item)
        else:
            yield item


def same(kernel, *arrays, **kwargs):
    """A kernel's outcome, which is one either way."""
    at_once, put_off = (outcome(kernel, arrays, defer, **kwargs) for defer in (False, True))
    assert put_off == at_once
    return at_once


def numbers(seed, shape, dtype="float32"):
    return np.random.default_rng(seed).standard_normal(shape).astype(TABLE[dtype].np)


# Programs drawn at random
