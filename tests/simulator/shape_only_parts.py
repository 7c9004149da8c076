"""Runs with and without data, compared."""

from __future__ import annotations

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import NkiValidationError, ShapeDtype

X = np.ones((128, 64), np.float32)


def story(trace):
    """All that a trace says of its events, with what stands for where an argument was given."""
    return [
        (
            e.op,
            e.engine,
            e.reads,
            e.writes,
            e.line,
            e.core,
            e.name,
            {k: v for k, v in e.attributes.items() if k != "written"},
        )
        for e in trace.events
    ]


def both(kernel, *arrays, target="trn2", **kwargs):
    """The traces of a kernel on arrays and on their shapes, which have to be one story; the outputs' too."""
    lines = []
    for arguments in (arrays, [ShapeDtype(a.shape, a.dtype) if isinstance(a, np.ndarray) else a for a in arrays]):
        lines.append(simulator.run(kernel, *arguments, target=target, **kwargs))
    with_data, without = lines
    assert story(with_data.trace) == story(without.trace)
    assert with_data.trace.allocations == without.trace.allocations
    outputs = [r.outputs if isinstance(r.outputs, tuple) else (r.outputs,) for r in (with_data, without)]
    for array, shape in zip(*outputs, strict=True):
        assert shape == ShapeDtype(array.shape, array.dtype)
    return without.trace


def refused(kernel, *arrays, match, error=NkiValidationError, target="trn2", options=None, **kwargs):
    """A kernel raises the same with arrays and with their shapes."""
    said = []
    for arguments in (arrays, [ShapeDtype(a.shape, a.dtype) for a in arrays]):
        with pytest.raises(error, match=match) as e:
            simulator.run(kernel, *arguments, target=target, options=options, **kwargs)
        said.append((type(e.value), str(e.value)))
    assert said[0] == said[1]
