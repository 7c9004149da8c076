"""Softmax with cross-entropy over a vocabulary, forward and backward.

    lse[m] = log sum_v exp(logits[m, v]),    loss[m] = lse[m] - logits[m, labels[m]]
    dlogits[m, v] = (exp(logits[m, v] - lse[m]) - [v = labels[m]]) * dloss[m]

A row whose label is negative counts for nothing: its loss and its gradient are 0. Rows lie on partitions, and the
vocabulary passes by in chunks, because a row of 128,256 logits does not fit beside anything else.

Forward, per chunk, each as long as all before it up to 8192: Vector takes its largest logit, Scalar exp(logit - the
largest so far) and its sum in one instruction. When a chunk raises the largest logit, the sum so far is scaled by
exp(old - new). The logit of the label comes out of HBM by a gathering DMA, one element a row, instead of a comparison
with every column; NeuronCore-v2, whose DMA gathers nothing, takes a transfer for each row.

Backward, per step: Scalar takes p = exp(logit - lse), Vector (column = label) - p in one instruction, and the two take
turns to multiply by -dloss and round. On NeuronCore-v2 the numbers of the columns stand in PSUM, half of which they
fill: Vector reads one tile of each memory at once there, and two of SBUF in turns.

Dimensions
    M    rows: tokens, any number
    V    vocabulary; M V is less than 2^31, because an index of 32 bits finds the label's logit

Logits are float32, bfloat16 or float16, labels int32, and lse, loss and dloss float32; dlogits has the logits' dtype.
"""

import nki
import nki.isa as nisa
import nki.language as nl

P = 128  # partitions
FIRST, MOST = 2048, 8192  # logits of a row that the forward loads at first, and at most
CHUNK = 4096  # that the backward loads at once
STEP = 2048  # columns whose numbers stand in half of PSUM
LOWEST = -3.0e38  # below every finite logit but float32's last ones; exp(minus infinity - LOWEST) is 0 and not NaN


@nki.jit
def cross_entropy(logits, labels):
    """loss[M] and lse[M] of logits[M, V] and labels[M]."""
    M, V = _check(logits, labels)
    loss = nl.ndarray((M,), dtype=nl.float32, buffer=nl.shared_hbm)
    lse = nl.ndarray((M,), dtype=nl.float32, buffer=nl.shared_hbm)
    for m0 in range(0, M, P):
        m = min(P, M - m0)
        top, total = _column(m, nl.float32), _column(m, nl.float32)
        nisa.memset(top, LOWEST)
        nisa.memset(total, 0.0)
        v0 = 0
        while v0 < V:
            v = min(max(FIRST, min(v0, MOST)), V - v0)
            chunk = nl.ndarray((m, v), dtype=logits.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=chunk, src=logits[m0 : m0 + m, v0 : v0 + v])
            top, total = _take_in(chunk, top, total)
            v0 += v
        ends = _column(m, nl.float32)
        nisa.activation(dst=ends, op=nl.log, data=total)
        nisa.tensor_tensor(dst=ends, data1=ends, data2=top, op=nl.add)
        nisa.dma_copy(dst=lse[m0 : m0 + m].reshape((m, 1)), src=ends)

        label = _load_column(labels, m0, m)
        counts = _column(m, nl.float32)  # 1, or 0 for a negative label
        nisa.tensor_scalar(dst=counts, data=label, op0=nl.greater_equal, operand0=0.0)
        lost = _column(m, nl.float32)
        nisa.tensor_tensor(dst=lost, data1=ends, data2=_label_logit(logits, label, m0), op=nl.subtract)
        kept = _column(m, nl.float32)
        nisa.memset(kept, 0.0)
        predicate = _column(m, nl.uint32)
        nisa.tensor_copy(dst=predicate, src=counts)
        nisa.tensor_copy_predicated(dst=kept, src=lost, predicate=predicate)
        nisa.dma_copy(dst=loss[m0 : m0 + m].reshape((m, 1)), src=kept)
    return loss, lse


@nki.jit
def cross_entropy_backward(logits, labels, lse, dloss):
    """dlogits[M, V] of logits[M, V], labels[M], lse[M] as from the forward kernel and dloss[M]."""
    M, V = _check(logits, labels)
    assert lse.shape == (M,) and dloss.shape == (M,), (
        f"lse and dloss must have shape ({M},), got {lse.shape}, {dloss.shape}"
    )
    dlogits = nl.ndarray((M, V), dtype=logits.dtype, buffer=nl.shared_hbm)
    is_gen2 = nisa.get_nc_version() == nisa.nc_version.gen2
    step = STEP if is_gen2 else CHUNK
    numbers = _numbers(min(P, M), min(step, V), nl.psum if is_gen2 else nl.sbuf)
    for m0 in range(0, M, P):
        m = min(P, M - m0)
        label = _column(m, nl.float32)
        nisa.tensor_copy(dst=label, src=_load_column(labels, m0, m))
        minus_lse, minus_dloss = _column(m, nl.float32), _column(m, nl.float32)
        nisa.tensor_scalar(dst=minus_lse, data=_load_column(lse, m0, m), op0=nl.multiply, operand0=-1.0)
        nisa.scalar_tensor_tensor(
            dst=minus_dloss,
            data=label,
            op0=nl.greater_equal,
            operand0=0.0,
            op1=nl.multiply,
            operand1=_load_column(dloss, m0, m),
        )
        nisa.tensor_scalar(dst=minus_dloss, data=minus_dloss, op0=nl.multiply, operand0=-1.0)
        for v0 in range(0, V, CHUNK):
            v = min(CHUNK, V - v0)
            chunk = nl.ndarray((m, v), dtype=logits.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=chunk, src=logits[m0 : m0 + m, v0 : v0 + v])
            result = nl.ndarray((m, v), dtype=logits.dtype, buffer=nl.sbuf)
            for c in range(0, v, step):
                n = min(step, v - c)
                p = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.sbuf)
                nisa.activation(dst=p, op=nl.exp, data=chunk[:, c : c + n], bias=minus_lse)
                here = _column(m, nl.float32)  # the label's column in this step
                nisa.tensor_scalar(dst=here, data=label, op0=nl.subtract, operand0=float(v0 + c))
                nisa.scalar_tensor_tensor(
                    dst=p, data=numbers[0:m, 0:n], op0=nl.equal, operand0=here, op1=nl.subtract, operand1=p
                )
                part = result[:, c : c + n]
                if (v0 + c) // step % 2 == 0:
                    nisa.activation(dst=part, op=nl.copy, data=p, scale=minus_dloss)
                else:
                    nisa.tensor_scalar(
                        dst=part, data=p, op0=nl.multiply, operand0=minus_dloss, engine=nisa.engine.vector
                    )
            nisa.dma_copy(dst=dlogits[m0 : m0 + m, v0 : v0 + v], src=result)
    return dlogits


def _take_in(chunk, top, total):
    """The largest logit and the sum of exp(logit - largest) of a row, after one more chunk of it."""
    m, v = chunk.shape
    largest = _column(m, chunk.dtype)
    nisa.tensor_reduce(dst=largest, op=nl.maximum, data=chunk, axis=1)
    higher, minus, shrink, part = (
        _column(m, nl.float32),
        _column(m, nl.float32),
        _column(m, nl.float32),
        _column(m, nl.float32),
    )
    nisa.tensor_tensor(dst=higher, data1=top, data2=largest, op=nl.maximum)
    nisa.tensor_scalar(dst=minus, data=higher, op0=nl.multiply, operand0=-1.0)
    weights = nl.ndarray((m, v), dtype=nl.bfloat16, buffer=nl.sbuf)  # which nobody reads
    nisa.activation_reduce(dst=weights, op=nl.exp, data=chunk, reduce_op=nl.add, reduce_res=part, bias=minus)
    nisa.activation(dst=shrink, op=nl.exp, data=top, bias=minus)
    sum_so_far = _column(m, nl.float32)
    nisa.scalar_tensor_tensor(dst=sum_so_far, data=total, op0=nl.multiply, operand0=shrink, op1=nl.add, operand1=part)
    return higher, sum_so_far


def _label_logit(logits, label, m0):
    """logits[m0 + i, label[i]] as a column; of a negative label any logit of the row."""
    (M, V), m = logits.shape, label.shape[0]
    at = nl.ndarray((m, 1), dtype=nl.int32, buffer=nl.sbuf)
    nisa.iota(dst=at, pattern=[[0, 1]], offset=m0 * V, channel_multiplier=V)
    inside = nl.ndarray((m, 1), dtype=nl.int32, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=inside, data=label, op0=nl.maximum, operand0=0.0)
    nisa.tensor_tensor(dst=at, data1=at, data2=inside, op=nl.add)  # int32: exact, where float32 would end at 2^24
    found = _column(m, logits.dtype)
    flat = logits.reshape((M * V, 1))
    if nisa.get_nc_version() == nisa.nc_version.gen2:  # one dynamic address a transfer
        for i in range(m):
            nisa.dma_copy(dst=found[i : i + 1, :], src=flat.select(0, at[i : i + 1, :]))
        return found
    nisa.dma_copy(dst=found, src=flat.ap([[1, m], [1, 1]], vector_offset=at, indirect_dim=0))
    return found


def _numbers(m, n, buffer):
    """0, 1, .. n-1 on each of m partitions, as float32."""
    counted = nl.ndarray((m, n), dtype=nl.int32, buffer=nl.sbuf)
    nisa.iota(dst=counted, pattern=[[1, n]], offset=0, channel_multiplier=0)
    numbers = nl.ndarray((m, n), dtype=nl.float32, buffer=buffer)
    nisa.tensor_copy(dst=numbers, src=counted)
    return numbers


def _column(m, dtype):
    return nl.ndarray((m, 1), dtype=dtype, buffer=nl.sbuf)


def _load_column(source, m0, m):
    """source[m0 : m0+m], one element a partition."""
    column = _column(m, source.dtype)
    nisa.dma_copy(dst=column, src=source[m0 : m0 + m].reshape((m, 1)))
    return column


def _check(logits, labels):
    assert len(logits.shape) == 2, f"cross_entropy takes logits[M, V], got shape {logits.shape}"
    M, V = logits.shape
    assert labels.shape == (M,), f"labels must have shape ({M},), got {labels.shape}"
    assert M * V < 2**31 - V, f"M V must be less than 2^31, got {M} x {V}"
    return M, V
