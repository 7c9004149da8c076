"""Softmax with cross-entropy over a vocabulary on a GPU, forward and backward.

    logits[M, V]    labels[M]    lse[m] = log sum_v exp(logits[m, v])    loss[m] = lse[m] - logits[m, labels[m]]
    dlogits[m, v] = (exp(logits[m, v] - lse[m]) - [v = labels[m]]) * dloss[m]

A row whose label is negative counts for nothing: its loss and its gradient are 0.

Memory is the limit, and a row of 128,256 logits is longer than registers are: it passes by in blocks, and the softmax
is online (Milakov and Gimelshein 2018). With m and l of what has passed, a block s gives

    m' = max(m, max_v s_v)        l' = l exp(m - m') + sum_v exp(s_v - m')        and at the end   lse = m + log(l)

With fewer rows than the device has room for programs, a row is divided among PARTS of them. Each writes its m and l
to memory, and a second kernel joins those by the same formula, in a fixed order. The label's logit is one load: a GPU
reads any address, so that no column is compared with the label.

The backward knows lse, and goes over all logits once, element by element. Everything is float32 inside.

A NaN or plus infinity among a row's logits makes lse NaN, as the formula does; minus infinity counts for nothing
unless nothing else is there."""

import triton
import triton.language as tl

BLOCK = 4096  # logits at a time: 16 a thread of 8 warps
RESIDENT = 4  # programs a processor: what keeps enough loads on their way


@triton.jit
def _joined(top, total, more_top, more_total):
    """(m, l) of two parts of a row; where nothing but minus infinity has passed m is that, and l 0."""
    new = tl.maximum(top, more_top)
    safe = tl.where(new == float("-inf"), 0.0, new)
    return new, total * tl.exp(top - safe) + more_total * tl.exp(more_top - safe)


@triton.jit
def _finish(row, top, total, logits, labels, loss, lse, logits_m, logits_v, labels_m, loss_m, lse_m):
    """lse and loss of a row of which everything has passed."""
    normaliser = tl.where(top == float("-inf"), float("nan"), top + tl.log(total))
    label = tl.load(labels + row * labels_m).to(tl.int64)
    counts = label >= 0
    chosen = tl.load(logits + row * logits_m + label * logits_v, mask=counts, other=0.0).to(tl.float32)
    tl.store(lse + row * lse_m, normaliser)
    tl.store(loss + row * loss_m, tl.where(counts, normaliser - chosen, 0.0))


@triton.jit
def _forward_kernel(
    logits,
    labels,
    loss,
    lse,
    parts,
    V,
    each,
    logits_m,
    logits_v,
    labels_m,
    loss_m,
    lse_m,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The logits [p each, (p + 1) each) of row program_id(0) // PARTS, p = program_id(0) % PARTS."""
    row = (tl.program_id(0) // PARTS).to(tl.int64)
    first = tl.program_id(0) % PARTS * each
    end = tl.minimum(first + each, V)
    v = tl.arange(0, BLOCK)
    at = logits + row * logits_m + v.to(tl.int64) * logits_v
    top = tl.full((), float("-inf"), tl.float32)
    total = tl.full((), 0.0, tl.float32)
    for v0 in range(first, end, BLOCK):
        s = tl.load(at + tl.cast(v0, tl.int64) * logits_v, mask=v0 + v < end, other=float("-inf")).to(tl.float32)
        block_top = tl.max(s, 0)
        safe = tl.where(block_top == float("-inf"), 0.0, block_top)
        top, total = _joined(top, total, block_top, tl.sum(tl.exp(s - safe), 0))
    if PARTS > 1:
        tl.store(parts + 2 * tl.program_id(0).to(tl.int64), top)
        tl.store(parts + 2 * tl.program_id(0).to(tl.int64) + 1, total)
    else:
        _finish(row, top, total, logits, labels, loss, lse, logits_m, logits_v, labels_m, loss_m, lse_m)


@triton.jit
def _join_kernel(logits, labels, loss, lse, parts, logits_m, logits_v, labels_m, loss_m, lse_m, PARTS: tl.constexpr):
    """Row program_id(0) from parts[M, PARTS, 2], each (m, l)."""
    row = tl.program_id(0).to(tl.int64)
    top = tl.full((), float("-inf"), tl.float32)
    total = tl.full((), 0.0, tl.float32)
    for p in range(PARTS):
        at = parts + 2 * (row * PARTS + p)
        top, total = _joined(top, total, tl.load(at), tl.load(at + 1))
    _finish(row, top, total, logits, labels, loss, lse, logits_m, logits_v, labels_m, loss_m, lse_m)


@triton.jit
def _backward_kernel(
    logits,
    labels,
    lse,
    dloss,
    out,
    V,
    blocks,
    logits_m,
    logits_v,
    labels_m,
    lse_m,
    dloss_m,
    out_m,
    out_v,
    BLOCK: tl.constexpr,
):
    """Block program_id(0) % blocks of row program_id(0) // blocks."""
    row = (tl.program_id(0) // blocks).to(tl.int64)
    v = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    label = tl.load(labels + row * labels_m)
    s = tl.load(logits + row * logits_m + v * logits_v, mask=v < V, other=0.0).to(tl.float32)
    p = tl.exp(s - tl.load(lse + row * lse_m))
    slope = (p - tl.where(v == label, 1.0, 0.0)) * tl.load(dloss + row * dloss_m)
    slope = tl.where(label >= 0, slope, 0.0)
    tl.store(out + row * out_m + v * out_v, slope.to(out.dtype.element_ty), mask=v < V)


def _check(name, logits, matrix, **columns):
    given = {"logits": logits, "out": matrix, **columns}
    if len(logits.shape) != 2 or any(tuple(x.shape) != tuple(logits.shape[:1]) for x in columns.values()):
        shapes = ", ".join(f"{key} {tuple(x.shape)}" for key, x in given.items() if x is not None)
        raise ValueError(f"{name} takes logits[M, V] and {', '.join(columns)} [M]: {shapes}")
    if matrix is not None and tuple(matrix.shape) != tuple(logits.shape):
        raise ValueError(f"{name} gives as many as logits {tuple(logits.shape)}; out is {tuple(matrix.shape)}")
    return logits.shape


def cross_entropy(logits, labels, loss, lse):
    """loss[M] and lse[M], float32, of logits[M, V] and labels[M]."""
    M, V = _check("cross_entropy", logits, None, labels=labels, loss=loss, lse=lse)
    driver = triton.runtime.driver.active
    processors = driver.utils.get_device_properties(driver.get_current_device())["multiprocessor_count"]
    block = min(BLOCK, triton.next_power_of_2(V))
    blocks = triton.cdiv(V, block)
    each = triton.cdiv(blocks, max(1, RESIDENT * processors // M)) * block
    n = triton.cdiv(V, each)
    parts = loss.new_empty(M, n, 2) if n > 1 else loss
    strides = (logits.stride(0), logits.stride(1), labels.stride(0), loss.stride(0), lse.stride(0))
    _forward_kernel[(M * n,)](
        logits,
        labels,
        loss,
        lse,
        parts,
        V,
        each,
        *strides,
        PARTS=n,
        BLOCK=block,
        num_warps=8,
        enable_fp_fusion=True,  # a * b + c rounds once; said aloud because Triton 3.10 changes the default
    )
    if n > 1:
        _join_kernel[(M,)](logits, labels, loss, lse, parts, *strides, PARTS=n, num_warps=1, enable_fp_fusion=True)


def cross_entropy_backward(logits, labels, lse, dloss, out):
    """dlogits[M, V], of lse as `cross_entropy` gives it and of dloss[M]."""
    M, V = _check("cross_entropy_backward", logits, out, labels=labels, lse=lse, dloss=dloss)
    block = min(BLOCK // 2, triton.next_power_of_2(V))
    blocks = triton.cdiv(V, block)
    strides = (labels.stride(0), lse.stride(0), dloss.stride(0), out.stride(0), out.stride(1))
    _backward_kernel[(M * blocks,)](
        logits,
        labels,
        lse,
        dloss,
        out,
        V,
        blocks,
        logits.stride(0),
        logits.stride(1),
        *strides,
        BLOCK=block,
        num_warps=8,
        enable_fp_fusion=True,
    )
