"""NKI's operators of two operands in NumPy: on float32, where a comparison gives 1 or 0, and on bit patterns."""

from __future__ import annotations

import numpy as np


def truth(f):
    return lambda x, y: f(x, y).astype(np.float32)


BINARY = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "maximum": lambda x, y: np.where(np.isnan(x) | (x > y), x, y),
    "minimum": lambda x, y: np.where(np.isnan(x) | (x < y), x, y),
    "equal": truth(lambda x, y: x == y),
    "not_equal": truth(lambda x, y: x != y),
    "less": truth(lambda x, y: x < y),
    "less_equal": truth(lambda x, y: x <= y),
    "greater": truth(lambda x, y: x > y),
    "greater_equal": truth(lambda x, y: x >= y),
    "logical_and": truth(lambda x, y: (x != 0) & (y != 0)),
    "logical_or": truth(lambda x, y: (x != 0) | (y != 0)),
    "logical_xor": truth(lambda x, y: (x != 0) ^ (y != 0)),
}
MAGNITUDES = {  # since NeuronCore-v4
    "abs_max": lambda x, y: np.where(np.abs(x) > np.abs(y), x, y),
    "abs_min": lambda x, y: np.where(np.abs(x) < np.abs(y), x, y),
}
BITS = {
    "bitwise_and": lambda x, y: x & y,
    "bitwise_or": lambda x, y: x | y,
    "bitwise_xor": lambda x, y: x ^ y,
    "left_shift": lambda x, y: x << y,
    "right_shift": lambda x, y: x >> y,
}
