# mypy: ignore-errors
"""OP_NAME: a kernel of your own in three panels. As written it is a softmax of rows; make it yours.

out[r, c] = exp(x[r, c] - max_c x[r, :]) / sum_c exp(x[r, c] - max_c x[r, :])

triptych check --kernel OP_NAME.py                        does every panel agree with the reference?
triptych check --kernel OP_NAME.py -a R=1,127,129         and at sizes of your choice?
triptych check --kernel OP_NAME.py --cases adversarial    with inputs that reach bugs?
triptych check --kernel OP_NAME.py --fuzz 60              searches for a case that fails, and shrinks it
triptych check --kernel OP_NAME.py --target trn1,trn2,trn3
triptych run --kernel OP_NAME.py                          check, time and write report.html
"""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

from triptych import Op

try:
    import triton
    import triton.language as tl
except ImportError:  # Triton has wheels for Linux only; the other panels do not need it
    triton = None


# Panel 1: the definition. Only NumPy, float64 inside, written to be read: it decides what is right.
def reference(x):
    """out[R, C] = softmax of each row of x[R, C]."""
    x = x.astype(np.float64)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


# Panel 2: NKI. A row lies in one partition, so that its maximum and sum are reductions along the free dimension. A row
# and its exponentials must fit in a partition of SBUF (192 KiB): C up to about 16,000.
@nki.jit
def nki_kernel(x):
    R, C = x.shape
    out = nl.ndarray((R, C), dtype=x.dtype, buffer=nl.shared_hbm)
    for r in range(0, R, 128):
        p = min(128, R - r)  # the last tile may have fewer rows
        rows = nl.ndarray((p, C), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=rows, src=x[r : r + p, :])

        # Vector engine: -max of each row. It is negated so that the next instruction can add it.
        minus_max = nl.ndarray((p, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_reduce(dst=minus_max, op=nl.maximum, data=rows, axis=1, negate=True)

        # Scalar engine: exp(row - max) and, in the same pass, its sum. Both stay in float32.
        e = nl.ndarray((p, C), dtype=nl.float32, buffer=nl.sbuf)
        total = nl.ndarray((p, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation_reduce(dst=e, op=nl.exp, data=rows, bias=minus_max, reduce_op=nl.add, reduce_res=total)

        # Vector engine: one reciprocal a row instead of a division an element. The write rounds to the output's dtype.
        scale = nl.ndarray((p, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.reciprocal(dst=scale, data=total)
        result = nl.ndarray((p, C), dtype=x.dtype, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=result, data=e, op0=nl.multiply, operand0=scale)
        nisa.dma_copy(dst=out[r : r + p, :], src=result)
    return out


# Panel 3: Triton. One program a row; the launcher takes the inputs and `out` by keyword.
if triton is not None:

    @triton.jit
    def triton_kernel(x, out, C, x_row, x_column, out_row, out_column, BLOCK: tl.constexpr):
        row = tl.program_id(0)
        column = tl.arange(0, BLOCK)
        inside = column < C
        values = tl.load(x + row * x_row + column * x_column, mask=inside, other=-float("inf")).to(tl.float32)
        e = tl.exp(values - tl.max(values, axis=0))
        e = e / tl.sum(e, axis=0)
        tl.store(out + row * out_row + column * out_column, e.to(out.dtype.element_ty), mask=inside)


def triton_launcher(x, out):
    R, C = x.shape
    block = triton.next_power_of_2(C)
    triton_kernel[(R,)](x, out, C, x.stride(0), x.stride(1), out.stride(0), out.stride(1), BLOCK=block)


# What `triptych` reads. Inputs are shapes in named axes; cases give the sizes: try one, a prime and one past a tile.
op = Op(
    name="OP_NAME",
    inputs={"x": ("R", "C")},
    reference=reference,
    cases={
        "smoke": [{"R": 128, "C": 64}, {"R": 200, "C": 300}],
        "edge": [{"R": 1, "C": 1}, {"R": 129, "C": 1}, {"R": 127, "C": 509}, {"R": 3, "C": 2049}],
        "model": [{"R": 512, "C": 2048}],
    },
    dtypes=("float32", "bfloat16", "float16"),
    flops=lambda axes, params: 5 * axes["R"] * axes["C"],  # max, subtract, exp, sum, multiply
    bytes=lambda axes, params, itemsize: 2 * axes["R"] * axes["C"] * itemsize,  # each element read once, written once
    nki=nki_kernel,
    triton=triton_launcher if triton is not None else None,
    torch=lambda x: x.softmax(dim=1),  # what a user would pick instead
)
