"""Flash attention, backward: dq, dk and dv of out = softmax(q k^T / sqrt(D)) v, from the saved log-sum-exp.

    s = q k^T / sqrt(D)        p = exp(s - lse)           delta[i] = sum_d dout[i, d] out[i, d]
    dp = dout v^T              ds = p * (dp - delta)
    dv = p^T dout              dk = ds^T q / sqrt(D)      dq = ds k / sqrt(D)

lse is what the forward kernel saves, so that p is at most 1 and is right at once: no maximum, no sum, nothing to
repair. Scores are computed again and never leave the chip.

Why queries on the partitions: lse and delta are then one number a partition, which Scalar and Vector take for nothing,
and p and ds are stationary as they are for dv and dk, which sum over queries. Only dq sums over keys: for it ds is
transposed on the Tensor Engine, one matmul's time beside five that are useful, so that 83 % of the peak is the bound.

Per tile of 128 queries and block of 512 keys, D = 128:

    Tensor   s and dp, 512 columns each; dv and dk, four tiles of keys each; four transposes of ds; dq
    Scalar   p = exp(s / sqrt(D) - lse) from PSUM; two of three copies of ds^T; the copy of a block's dv
    Vector   ds in one instruction, dp from PSUM; the other copies; dk of a block added to what there is in SBUF; delta
    GpSimd   zeros in p where a query does not see a key, on the diagonals alone; dv added up in SBUF
    DMA      transposes on the way in; k, k^T and v^T of a head, and its dk and dv in float32, stay in SBUF

A block is 512 queries: over these dv and dk of 512 keys add up in PSUM, and dq over all keys. Keys beyond what fits in
SBUF are another span: dq of a block waits in HBM, in float32, from one to the next.

Dimensions
    B, H, Hkv   batch, query heads, key and value heads; H is a multiple of Hkv, and dk, dv are summed over a group
    Sq, Sk      queries and keys; any lengths, and they may differ
    D           head dimension, 1 to 256; above 128, blocks have 256 queries and keys

With `causal`, query i sees the keys j <= i + Sk - Sq, and with `window` only the last `window` of these. A query that
sees no key has dq = 0 and adds nothing.
"""

import nki
import nki.isa as nisa
import nki.language as nl

P = 128  # partitions: queries of a tile, keys of a tile
BANK = 512  # float32 numbers of a PSUM bank
SPAN = 128 * 1024  # bytes a partition that what stays of the keys may take


@nki.jit
def attention_backward(q, k, v, out, dout, lse, causal=False, window=None):
    """(dq[B, H, Sq, D], dk[B, Hkv, Sk, D], dv[B, Hkv, Sk, D]) of q, out, dout[B, H, Sq, D], k, v[B, Hkv, Sk, D].

    lse[B, H, Sq], float32: log sum_j exp(s[i, j]) over the keys that query i sees.
    """
    B, H, Hkv, Sq, Sk, D = _check(q, k, v, out, dout, lse, causal, window)
    dq = nl.ndarray(q.shape, dtype=q.dtype, buffer=nl.shared_hbm)
    dk = nl.ndarray(k.shape, dtype=q.dtype, buffer=nl.shared_hbm)
    dv = nl.ndarray(k.shape, dtype=q.dtype, buffer=nl.shared_hbm)
    sees = {
        "shift": Sk - Sq if causal else Sk,  # query i sees the keys up to i + shift
        "window": Sk + Sq if window == None else window,  # and of these so many
    }
    first = max(0, Sq - Sk) if causal else 0
    size = BANK if D <= P else BANK // 2
    identity = nl.shared_identity_matrix(P, dtype=q.dtype)
    span = min(Sk, _span(q, size))
    waiting = None  # dq of the spans so far
    if span < Sk:
        waiting = nl.ndarray((H // Hkv, Sq, D), dtype=nl.float32, buffer=nl.private_hbm)
    for b in range(B):
        for g in range(Hkv):
            heads = range(g * (H // Hkv), (g + 1) * (H // Hkv))
            for h in heads:
                _write_zeros(dq[b, h], first)
            for k0 in range(0, Sk, span):
                keys = _span_of_keys(k[b, g], v[b, g], dk[b, g], dv[b, g], k0, min(span, Sk - k0), size)
                blocks = []
                for h in heads:
                    for i0 in range(first, Sq, size):
                        block = _block(i0, min(size, Sq - i0), keys, sees, size)
                        if len(block["steps"]) > 0:
                            block["from"] = (q[b, h], out[b, h], dout[b, h], lse[b, h])
                            block["to"] = dq[b, h]
                            block["waiting"] = None if waiting == None else waiting[h % len(heads)]
                            blocks.append(block)
                _visit(blocks, keys, sees, identity)
    return dq, dk, dv


def _span(q, size):
    """How many keys a span has: as many whole blocks as fit into SPAN bytes a partition."""
    D = q.shape[3]
    width = 4 if q.dtype == nl.float32 else 2
    tile = 2 * -(-D // P) * P * width + D * width + 2 * D * 4  # k^T, v^T, k; dk, dv
    return max(1, SPAN // tile * P // size) * size


def _span_of_keys(k, v, dk, dv, k0, n, size):
    """The keys k0 .. k0+n in chunks of `size`, none of which is loaded."""
    keys = {"first": k0, "count": n, "all": k.shape[0], "from": (k, v), "to": (dk, dv), "chunks": []}
    for c0 in range(0, n, size):
        keys["chunks"].append({"first": c0, "count": min(size, n - c0), "blocks": 0})
    return keys


def _load_keys(keys, chunk):
    """What stays in SBUF of a chunk of keys: k^T and v^T, k in rows, and dk and dv, which are 0."""
    k, v = keys["from"]
    j0, n = keys["first"] + chunk["first"], chunk["count"]
    chunk["k"], chunk["v"] = _load_transposed(k, j0, n), _load_transposed(v, j0, n)
    chunk["rows"] = _load_rows(k, j0, n)
    for name in ("dk", "dv"):
        chunk[name] = nl.ndarray((P, -(-n // P), k.shape[1]), dtype=nl.float32, buffer=nl.sbuf)
        nisa.memset(chunk[name], 0.0, engine=nisa.engine.gpsimd)


def _block(i0, queries, keys, sees, size):
    """A block of queries and its steps in the span: (chunk of keys, tile w of queries, first key, end) in the chunk."""
    steps = []
    for chunk in keys["chunks"]:
        is_used = 0
        for w in range(-(-queries // P)):
            # The first key that the first query of the tile sees, and one past the last that the last one sees.
            i, j0 = i0 + w * P + sees["shift"], keys["first"] + chunk["first"]
            lo = max(0, i - sees["window"] + 1 - j0) // P * P
            hi = min(chunk["count"], -(-(i + min(P, queries - w * P) - j0) // P) * P)
            if lo < hi:
                steps.append((chunk, w, lo, hi))
                is_used = 1
        chunk["blocks"] += is_used
    return {"i0": i0, "queries": queries, "steps": steps}


def _visit(blocks, keys, sees, identity):
    """All blocks of a group and a span: the next scores are there before p of a step, the next p and ds before its dv
    and dk, and its ds^T before dq. Engines run in this order, and would wait for each other with less between.
    """
    for chunk in keys["chunks"]:
        if chunk["blocks"] == 0:  # no query sees any of these keys
            _load_keys(keys, chunk)
            _store(keys, chunk)
    steps = []
    for block in blocks:
        for s in range(len(block["steps"])):
            steps.append((block, s))
    scored, weighed, turned = [], [], []
    for c in range(len(steps) + 3):
        if c < len(steps):
            block, s = steps[c]
            if s == 0:
                _load_block(block)
            if "k" not in block["steps"][s][0]:
                _load_keys(keys, block["steps"][s][0])
            scored.append(_score(block, block["steps"][s]))
        if 1 <= c <= len(steps):
            block, s = steps[c - 1]
            weighed.append(_weigh(block, block["steps"][s], scored[c - 1], keys, sees))
        if 2 <= c <= len(steps) + 1:
            block, s = steps[c - 2]
            turned.append(_turn(weighed[c - 2][1], identity, c))
            _collect_keys(block, s, weighed[c - 2], keys)
        if c >= 3:
            block, s = steps[c - 3]
            _collect_queries(block, block["steps"][s], turned[c - 3])
            if s == len(block["steps"]) - 1:
                _finish(block, keys, sees)


def _load_block(block):
    """What a block of queries needs: q and dout both ways, -lse and delta of each query."""
    q, out, dout, lse = block["from"]
    i0, n, D = block["i0"], block["queries"], q.shape[1]
    tiles = -(-n // P)
    block["q"], block["dout"] = _load_transposed(q, i0, n), _load_transposed(dout, i0, n)
    block["q_rows"], block["dout_rows"] = _load_rows(q, i0, n), _load_rows(dout, i0, n)
    outputs = _load_rows(out, i0, n)
    block["minus_lse"] = nl.ndarray((P, tiles), dtype=nl.float32, buffer=nl.sbuf)
    block["delta"] = nl.ndarray((P, tiles), dtype=nl.float32, buffer=nl.sbuf)
    for m, begin, end in _rectangles(n):
        minus = block["minus_lse"][0:m, begin:end]
        saved = lse[i0 + begin * P : i0 + (end - 1) * P + m]
        nisa.dma_copy(dst=minus, src=saved.reshape((end - begin, m)).permute((1, 0)))
        nisa.tensor_scalar(dst=minus, data=minus, op0=nl.multiply, operand0=-1.0)
        product = nl.ndarray((m, end - begin, D), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_tensor(
            dst=product,
            data1=outputs[0:m, begin:end, :],
            data2=block["dout_rows"][0:m, begin:end, :],
            op=nl.multiply,
            engine=nisa.engine.vector,
        )
        nisa.tensor_reduce(dst=block["delta"][0:m, begin:end], op=nl.add, data=product, axis=2)
    block["started"] = {}  # tiles of queries that have a sum
    block["sums"] = nl.ndarray((P, tiles, D), dtype=nl.float32, buffer=nl.psum)


def _score(block, step):
    """s sqrt(D) and dp of a tile of queries and the step's keys, in PSUM."""
    chunk, w, lo, hi = step
    m = min(P, block["queries"] - w * P)
    found = []
    for left, right in (("q", "k"), ("dout", "v")):
        product = nl.ndarray((m, hi - lo), dtype=nl.float32, buffer=nl.psum)
        for d in range(len(chunk[right])):
            nisa.nc_matmul(
                dst=product,
                stationary=block[left][d][:, w * P : w * P + m],
                moving=chunk[right][d][:, lo:hi],
                accumulate=d > 0,
            )
        found.append(product)
    return found


def _weigh(block, step, scored, keys, sees):
    """p and ds of a step in SBUF, with zeros where a query does not see a key."""
    chunk, w, lo, _ = step
    scores, dp = scored
    m, n = scores.shape
    D = block["q_rows"].shape[2]
    p = nl.ndarray((m, n), dtype=block["q_rows"].dtype, buffer=nl.sbuf)
    nisa.activation(dst=p, op=nl.exp, data=scores, scale=1.0 / D**0.5, bias=block["minus_lse"][0:m, w : w + 1])
    i = block["i0"] + w * P + sees["shift"]  # the last key that the first query sees
    j = keys["first"] + chunk["first"] + lo  # the first key of the step
    blind = max(0, i + 1 - j)  # from this column on, the first query does not see all
    if blind < n:
        _select(p[:, blind:n], i - j - blind, 1)
    late = min(n, i + m - sees["window"] - j)  # columns before it are too old for the last query
    if late > 0:
        _select(p[:, 0:late], j - i + sees["window"] - 1, -1)
    ds = nl.ndarray((m, n), dtype=p.dtype, buffer=nl.sbuf)
    nisa.scalar_tensor_tensor(
        dst=ds, data=dp, op0=nl.subtract, operand0=block["delta"][0:m, w : w + 1], op1=nl.multiply, operand1=p
    )
    return p, ds


def _select(tile, offset, sign):
    """tile[query, key] = 0 where offset + sign * (query - key) < 0."""
    nisa.affine_select(
        dst=tile,
        pattern=[[-sign, tile.shape[1]]],
        channel_multiplier=sign,
        on_true_tile=tile,
        on_false_value=0.0,
        cmp_op=nl.greater_equal,
        offset=offset,
    )


def _turn(ds, identity, turn):
    """ds[m, n] as ds^T in tiles of 128 keys, [128, tiles, m]; Vector makes one of three copies, Scalar the others."""
    m, n = ds.shape
    tiles = -(-n // P)
    is_gen2 = nisa.get_nc_version() == nisa.nc_version.gen2
    in_psum = nl.ndarray((P, tiles, m), dtype=nl.float32 if is_gen2 else ds.dtype, buffer=nl.psum)
    for t in range(tiles):
        end = min(n, (t + 1) * P)
        tile, dst = ds[:, t * P : end], in_psum[0 : end - t * P, t, :]
        if is_gen2:  # into float32, as it must be there
            nisa.nc_matmul(dst=dst, stationary=tile, moving=identity[0:m, 0:m], accumulate=False)
        else:
            nisa.nc_transpose(dst=dst, data=tile)
    turned = nl.ndarray((P, tiles, m), dtype=ds.dtype, buffer=nl.sbuf)
    for rows, begin, end in _rectangles(n):
        if turn % 3 == 0:
            nisa.tensor_copy(dst=turned[0:rows, begin:end, :], src=in_psum[0:rows, begin:end, :])
        else:
            nisa.activation(dst=turned[0:rows, begin:end, :], op=nl.copy, data=in_psum[0:rows, begin:end, :])
    return turned


def _collect_keys(block, s, weighed, keys):
    """Add p^T dout and ds^T q of a step to dv and dk: in PSUM for a block of queries, then in SBUF."""
    chunk, w, lo, hi = block["steps"][s]
    m, D = weighed[0].shape[0], chunk["dk"].shape[2]
    if s == 0 or block["steps"][s - 1][0]["first"] != chunk["first"]:
        block["seen"] = {}
        for name in ("dv", "dk"):
            block[name] = nl.ndarray(chunk[name].shape, dtype=nl.float32, buffer=nl.psum)
    for t in range(lo // P, -(-hi // P)):
        rows, at = min(hi, (t + 1) * P) - t * P, t * P - lo
        for name, left, right in (("dv", weighed[0], "dout_rows"), ("dk", weighed[1], "q_rows")):
            nisa.nc_matmul(
                dst=block[name][0:rows, t, :],
                stationary=left[:, at : at + rows],
                moving=block[right][0:m, w, :],
                accumulate=t in block["seen"],
            )
        block["seen"][t] = True
    if s < len(block["steps"]) - 1 and block["steps"][s + 1][0]["first"] == chunk["first"]:
        return
    first = min(block["seen"].keys())
    for rows, begin, end in _rectangles(min(chunk["count"], (max(block["seen"].keys()) + 1) * P) - first * P):
        a, z = first + begin, first + end
        sum_k, sum_v = chunk["dk"][0:rows, a:z, :], chunk["dv"][0:rows, a:z, :]
        nisa.tensor_tensor(dst=sum_k, data1=block["dk"][0:rows, a:z, :], data2=sum_k, op=nl.add)
        copied = nl.ndarray((rows, end - begin, D), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation(dst=copied, op=nl.copy, data=block["dv"][0:rows, a:z, :])
        nisa.tensor_tensor(dst=sum_v, data1=sum_v, data2=copied, op=nl.add, engine=nisa.engine.gpsimd)
    chunk["blocks"] -= 1
    if chunk["blocks"] == 0:
        _store(keys, chunk)


def _collect_queries(block, step, turned):
    """Add ds k of a step to dq, in PSUM."""
    chunk, w, lo, hi = step
    m = turned.shape[2]
    for t in range(lo // P, -(-hi // P)):
        rows = min(hi, (t + 1) * P) - t * P
        nisa.nc_matmul(
            dst=block["sums"][0:m, w, :],
            stationary=turned[0:rows, t - lo // P, :],
            moving=chunk["rows"][0:rows, t, :],
            accumulate=w in block["started"],
        )
        block["started"][w] = True


def _finish(block, keys, sees):
    """Store dq of a block, or keep it for the next span of keys, in float32."""
    D = block["to"].shape[1]
    for w in range(-(-block["queries"] // P)):
        if w in block["started"]:
            i, m = block["i0"] + w * P, min(P, block["queries"] - w * P)
            has_before = max(0, i + sees["shift"] - sees["window"] + 1) < keys["first"]
            has_after = min(keys["all"], i + m + sees["shift"]) > keys["first"] + keys["count"]
            total = block["sums"][0:m, w, :]
            if has_before:
                before = nl.ndarray((m, D), dtype=nl.float32, buffer=nl.sbuf)
                nisa.dma_copy(dst=before, src=block["waiting"][i : i + m, :])
                nisa.tensor_tensor(dst=before, data1=total, data2=before, op=nl.add)
                total = before
            result = nl.ndarray((m, D), dtype=nl.float32 if has_after else block["to"].dtype, buffer=nl.sbuf)
            nisa.tensor_scalar(dst=result, data=total, op0=nl.multiply, operand0=1.0 if has_after else 1.0 / D**0.5)
            to = block["waiting"] if has_after else block["to"]
            nisa.dma_copy(dst=to[i : i + m, :], src=result)


def _store(keys, chunk):
    """Store dk and dv of a chunk, scaled and rounded."""
    D = chunk["dk"].shape[2]
    for name, out, scale in (("dk", keys["to"][0], 1.0 / D**0.5), ("dv", keys["to"][1], 1.0)):
        for rows, begin, end in _rectangles(chunk["count"]):
            rounded = nl.ndarray((rows, end - begin, D), dtype=out.dtype, buffer=nl.sbuf)
            nisa.tensor_scalar(dst=rounded, data=chunk[name][0:rows, begin:end, :], op0=nl.multiply, operand0=scale)
            j0 = keys["first"] + chunk["first"]
            to = out[j0 + begin * P : j0 + (end - 1) * P + rows, :]
            nisa.dma_copy(dst=to.reshape((end - begin, rows, D)).permute((1, 0, 2)), src=rounded)


def _load_transposed(source, s0, n):
    """The rows s0 .. s0+n of source[S, D] as SBUF tiles [up to 128 of D, n]."""
    tiles = []
    for d in range(0, source.shape[1], P):
        end = min(d + P, source.shape[1])
        tile = nl.ndarray((end - d, n), dtype=source.dtype, buffer=nl.sbuf)
        nisa.dma_transpose(dst=tile, src=source[s0 : s0 + n, d:end])
        tiles.append(tile)
    return tiles


def _load_rows(source, s0, n):
    """The rows s0 .. s0+n of source[S, D] in tiles of 128: [128, tiles, D]."""
    D = source.shape[1]
    found = nl.ndarray((P, -(-n // P), D), dtype=source.dtype, buffer=nl.sbuf)
    for m, begin, end in _rectangles(n):
        rows = source[s0 + begin * P : s0 + (end - 1) * P + m, :]
        nisa.dma_copy(dst=found[0:m, begin:end, :], src=rows.reshape((end - begin, m, D)).permute((1, 0, 2)))
    return found


def _rectangles(n):
    """Tiles of 128 of n rows as (rows, first tile, last tile + 1): the full ones, then one that is not."""
    found = []
    if n >= P:
        found.append((P, 0, n // P))
    if n % P:
        found.append((n % P, n // P, n // P + 1))
    return found


def _write_zeros(out, n):
    """out[0:n, :] = 0, for the queries that see no key."""
    for i0 in range(0, n, P):
        rows = min(P, n - i0)
        zeros = nl.ndarray((rows, out.shape[1]), dtype=out.dtype, buffer=nl.sbuf)
        nisa.memset(zeros, 0.0)
        nisa.dma_copy(dst=out[i0 : i0 + rows, :], src=zeros)


def _check(q, k, v, out, dout, lse, causal, window):
    assert len(q.shape) == 4 and len(k.shape) == 4 and k.shape == v.shape, (
        f"attention_backward takes q[B, H, Sq, D], k and v[B, Hkv, Sk, D], got {q.shape}, {k.shape} and {v.shape}"
    )
    B, H, Sq, D = q.shape
    _, Hkv, Sk, _ = k.shape
    assert out.shape == q.shape and dout.shape == q.shape and lse.shape == (B, H, Sq), (
        f"out and dout must have the shape of q, {q.shape}, and lse {(B, H, Sq)}, got {out.shape}, {dout.shape} and "
        f"{lse.shape}"
    )
    assert k.shape[0] == B and k.shape[3] == D, f"q and k must share B and D, got {q.shape} and {k.shape}"
    assert H % Hkv == 0, f"query heads must be a multiple of key heads, got {H} and {Hkv}"
    assert D <= 2 * P, f"the head dimension is at most {2 * P}, got {D}"
    for tensor in (k, v, out, dout):
        assert tensor.dtype == q.dtype, f"all arrays but lse must have one dtype, got {q.dtype} and {tensor.dtype}"
    assert q.dtype == nl.float32 or q.dtype == nl.bfloat16 or q.dtype == nl.float16, (
        f"attention_backward takes float32, bfloat16 or float16, got {q.dtype}"
    )
    assert lse.dtype == nl.float32, f"lse must be float32, got {lse.dtype}"
    assert window == None or causal and window > 0, f"a window of one or more keys goes with causal, got {window}"
    return B, H, Hkv, Sq, Sk, D
