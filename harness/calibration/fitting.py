"""Constants that make the model say what was measured: weighted least squares, by Gauss and Newton's steps.

Each constant is positive and moves by factors, so that what is fitted is its logarithm. One that the observations do
not decide to within a fifth stays as it was, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.calibration.observations import Observation

STEPS, SMALLEST_STEP, LONGEST_STEP = 20, 1e-3, 0.5  # of a logarithm
NUDGE = 0.03  # of a logarithm: windows of the clock move times in steps of a matmul, a hundredth of what they are
FAR = (0.5, 0.7, 1.4, 2.0)  # times the value that is tried at first
UNDECIDED = 0.2  # relative standard error beyond which a constant is not known


@dataclass(frozen=True)
class Fitted:
    """values: of the fields that are decided; errors: their relative standard errors; left: the fields that are not."""

    values: Mapping[str, float]
    errors: Mapping[str, float]
    left: tuple[str, ...]


def fit(
    observations: Sequence[Observation], fields: Sequence[str], start: Mapping[str, float], known: Mapping[str, float]
) -> Fitted:
    """The best values of `fields`, from their values in `start`; `known` holds those of earlier fits."""
    free = [name for name in fields if start[name] > 0]
    while free and observations:
        values, errors = _fitted(observations, free, start, known)
        worst = max(range(len(free)), key=lambda i: errors[i])
        if errors[worst] <= UNDECIDED:
            return Fitted(
                dict(zip(free, map(float, values), strict=True)),
                dict(zip(free, map(float, errors), strict=True)),
                tuple(name for name in fields if name not in free),
            )
        del free[worst]
    return Fitted({}, {}, tuple(fields))


def _fitted(
    observations: Sequence[Observation], free: Sequence[str], start: Mapping[str, float], known: Mapping[str, float]
) -> tuple[Array, Array]:
    """Values and relative standard errors."""
    logs = np.log([start[name] for name in free])

    def residuals(at: Array) -> Array:
        settings = {**known, **dict(zip(free, np.exp(at), strict=True))}
        return np.array([(one.predicted(settings) - one.measured) / one.sigma for one in observations])

    def slopes(at: Array, here: Array) -> Array:
        moved = [residuals(at + NUDGE * unit) for unit in np.eye(len(free))]
        return np.stack([(there - here) / NUDGE for there in moved], axis=1)

    here = residuals(logs)
    jacobian = slopes(logs, here)
    for no_limit, unit in zip(np.abs(jacobian).max(axis=0) < 1, np.eye(len(free)), strict=True):
        for factor in FAR if no_limit else ():  # it may be one further away
            there = residuals(logs + np.log(factor) * unit)
            if there @ there < here @ here:
                logs, here = logs + np.log(factor) * unit, there
    for _ in range(STEPS):
        jacobian = slopes(logs, here)
        step = np.clip(np.linalg.lstsq(jacobian, -here, rcond=1e-9)[0], -LONGEST_STEP, LONGEST_STEP)
        while True:
            there = residuals(logs + step)
            if there @ there <= here @ here or np.abs(step).max() < SMALLEST_STEP:
                break
            step = step / 2
        logs, here = logs + step, there
        if np.abs(step).max() < SMALLEST_STEP:
            break
    jacobian = slopes(logs, here)
    excess = max(1.0, float(here @ here) / max(len(observations) - len(free), 1))
    normal = jacobian.T @ jacobian
    covariance = np.linalg.pinv(normal, rcond=1e-12, hermitian=True)
    unseen = np.abs(jacobian).max(axis=0) < 1  # a change of all of it is lost in the noise
    mixed = np.linalg.matrix_rank(normal, hermitian=True) < len(free)
    errors = np.sqrt(np.diag(covariance) * excess)
    errors[unseen] = np.inf
    if mixed and np.isfinite(errors).all():
        errors[np.argmax(np.diag(covariance))] = np.inf
    return np.exp(logs), errors
