"""Decode attention: T new tokens of each sequence attend to its cache and to each other, and join the cache in place.

    out[b, h, i, :] = sum_j p[j, i] v[j, :] / l[i],    l[i] = sum_j p[j, i]
    p[j, i] = exp(s[j, i] / sqrt(D)),    s[j, i] = k[j, :] . q[b, h, i, :]

where k and v are, one behind the other, the first lengths[b] tokens of the cache of (b, g), g = h // (H // Hkv), and
the new tokens 0 .. i. Token i is then written at position lengths[b] + i of the cache.

What it costs is to read the cache once; all else hides behind that. So the layout is DMA's: each partition reads a run
of r consecutive tokens, 4 KiB, as one descriptor, where a token a partition would have 256 bytes. Key j0 + p r + t of a
chunk of 128 r tokens lies on partition p, column t: an odd order, and a softmax has none. A paged cache is read the
same way, because a run lies within a page: partition p gathers the row that its page says, one indirect transfer a
chunk.

Per chunk of 128 r keys, G = H // Hkv heads that share it, n = G T columns of queries:

    Tensor   transposes k, 128 x 128 a time, of D = 64 two tiles; s[key, n] = k q^T for as many, k^T stationary; v^T p,
             v stationary
    Scalar   half of the copies of k^T from PSUM to SBUF; p = exp(s / sqrt(D)), all of the chunk in one instruction
    Vector   the other half; zeros for keys from lengths[b] on; sums of p over t, which a product with ones finishes

Keys on the partitions make a maximum impossible, and as in `attention` none is needed: each (b, g) proves from l and
its outputs that the shift 0 was right, or is computed again by `_exactly`, under a loop that ordinary inputs never
enter.

Dimensions
    B, H, Hkv   sequences, query heads, key and value heads; H is a multiple of Hkv, and n = H // Hkv * T at most 128
    T           new tokens, usually 1; more are a prompt's rest or a draft to verify
    S           capacity of the cache: lengths[b] + T <= S
    D           head dimension, 1 to 256

All of S is read, whatever the lengths: programs of the Tensor Engine have static shapes, so serve with S in buckets.

A cache in float8_e4m3 has half the bytes: what it holds stands for itself times k_scale[g] or v_scale[g], one positive
number for each key head, as in vLLM (docs, features/quantization/quantized_kvcache: k/v_scale = [num_kv_heads]). New
tokens are divided by it, clipped to 240, rounded, and then attended to as the cache holds them. The Tensor Engine takes
float8 beside the queries' dtype, so nothing is converted. k is transposed in pairs of numbers, which are 16 bits: a key
of D = 128 is as wide as one of 64. Then k q^T is two products, of each pair's first and of its second. NeuronCore-v2
cannot, nor do pairs make an odd D: there k is multiplied by the identity, and rounded to the queries' dtype on its way
out. k_scale joins 1 / sqrt(D) in the exponent, v_scale joins 1 / l.
"""

import math

import nki
import nki.isa as nisa
import nki.language as nl

P = 128  # partitions
BANK = 512  # float32 numbers of a PSUM bank
RUN = 4096  # bytes that a descriptor should have
LEAST, MOST = 2.0**-12, 2.0**90  # of l over the number of keys, as in `attention`
LARGEST = 3.4028234663852886e38  # finite float32
HIDDEN = -LARGEST  # score of a key that a query does not see, where a maximum is taken
MOST_FLOAT8 = 240.0  # the largest number of float8_e4m3


@nki.jit
def attention_decode(q, k_new, v_new, k_cache, v_cache, lengths, page_table=None, k_scale=None, v_scale=None):
    """out[B, H, T, D] of q[B, H, T, D], k_new and v_new[B, Hkv, T, D], which it appends to the caches.

    k_cache, v_cache are [B, Hkv, S, D], or with page_table[B, pages of a sequence] pages [pages, Hkv, page, D];
    lengths[B] and page_table are int32. Position j of sequence b is then in page page_table[b, j // page] at j % page;
    entries for positions that are not used may be anything. Caches of float8_e4m3 come with k_scale and v_scale[Hkv],
    float32 and positive.
    """
    sizes = _check(q, k_new, v_new, k_cache, v_cache, lengths, page_table, k_scale, v_scale)
    B, H, Hkv, T, D = q.shape[0], q.shape[1], k_new.shape[1], q.shape[2], q.shape[3]
    out = nl.ndarray(q.shape, dtype=q.dtype, buffer=nl.shared_hbm)
    everywhere = nl.ndarray((P, B), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=everywhere, src=lengths.reshape((1, B)).broadcast(0, P))
    k_stored, v_stored = k_new, v_new
    if k_scale != None:
        k_new, k_stored, by_head = _quantize(k_new, k_scale, k_cache.dtype)
        v_new, v_stored, sizes["v_scale"] = _quantize(v_new, v_scale, v_cache.dtype)
        sizes["k_scale"] = nl.ndarray((P, Hkv), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=sizes["k_scale"], data=by_head, op0=nl.multiply, operand0=sizes["scale"])
    new = {
        "rows": q,
        "q": _transposed(q.reshape((B * H * T, D))),
        "k": _transposed(k_new.reshape((B * Hkv * T, D))),
        "v": v_new,
        "lengths": everywhere,
    }
    table = None if page_table == None else _load_pages(page_table, k_cache.shape[0])
    cache = _plan(sizes, k_cache, v_cache, table)
    places = _places(lengths, table, k_cache.shape[2], sizes)
    suspect = _attempt(out, new, cache, sizes)
    _repair(out, new, cache, sizes, suspect)
    _append(k_stored, k_cache, places)
    _append(v_stored, v_cache, places)
    return out


def _quantize(new, scale, dtype):
    """new[B, Hkv, T, D] / scale[Hkv], clipped and rounded to dtype, in HBM: (in the dtype of new, in dtype); and scale
    in all partitions, float32 [128, Hkv].
    """
    B, Hkv, T, D = new.shape
    by_head = nl.ndarray((P, Hkv), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=by_head, src=scale.reshape((1, Hkv)).broadcast(0, P))
    inverse = nl.ndarray((P, Hkv), dtype=nl.float32, buffer=nl.sbuf)  # no engine divides
    nisa.reciprocal(dst=inverse, data=by_head)
    given = nl.ndarray((B, Hkv, T * D), dtype=new.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=given, src=new.reshape((B, Hkv, T * D)))
    rounded = nl.ndarray(given.shape, dtype=dtype, buffer=nl.sbuf)
    for g in range(Hkv):
        divided = nl.ndarray((B, T * D), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(
            dst=divided,
            data=given[:, g, :],
            op0=nl.multiply,
            operand0=inverse[0:B, g : g + 1],
            op1=nl.maximum,
            operand1=-MOST_FLOAT8,
        )
        nisa.tensor_scalar(dst=rounded[:, g, :], data=divided, op0=nl.minimum, operand0=MOST_FLOAT8)
    nisa.tensor_copy(dst=given, src=rounded)
    stored = []
    for tile in (given, rounded):
        stored.append(nl.ndarray(new.shape, dtype=tile.dtype, buffer=nl.private_hbm))
        nisa.dma_copy(dst=stored[len(stored) - 1].reshape((B, Hkv, T * D)), src=tile)
    return stored[0], stored[1], by_head


def _exponent(sizes, g, rows):
    """What a score of key head g is multiplied by in the exponent: a number, or a column of so many rows."""
    return sizes["scale"] if sizes["k_scale"] == None else sizes["k_scale"][0:rows, g : g + 1]


def _plan(sizes, k_cache, v_cache, table):
    """How the cache is read: chunks (first position, partitions, run), and where a chunk of (b, g) lies."""
    S, D, columns = sizes["S"], sizes["D"], sizes["columns"]
    width = 4 if k_cache.dtype == nl.float32 else 1 if k_cache.dtype == nl.float8_e4m3 else 2
    longest = max(1, min(RUN // (D * width), BANK // columns))
    chunks, rows = [], None
    if table == None:
        j0 = 0
        while j0 < S:
            run = max(1, min(longest, (S - j0) // P))
            chunks.append((j0, min(P, S - j0), run))
            j0 += min(P, S - j0) * run
    else:
        page = k_cache.shape[2]
        run = min(longest, page)
        while page % run:
            run -= 1
        u = page // run  # runs of a page
        assert u <= P, f"a page of {page} tokens has no divisor from {-(-page // P)} to {longest} to be read by"
        each = P // u * u
        for j in range(0, S // run, each):
            chunks.append((j * run, min(each, S // run - j), run))
        rows = _rows_of_runs(table, k_cache.shape[1], u, min(each, S // run))
    positions = []
    for j0, m, run in chunks:
        tile = nl.ndarray((m, run), dtype=nl.float32, buffer=nl.sbuf)
        nisa.iota(dst=tile, pattern=[[1, run]], offset=j0, channel_multiplier=run)
        positions.append(tile)
    return {"k": k_cache, "v": v_cache, "chunks": chunks, "rows": rows, "positions": positions}


def _attempt(out, new, cache, sizes):
    """Write out as if all scores were moderate; suspect[1, B * Hkv] is 0 where (b, g) passed, else 1."""
    B, Hkv, D, n = sizes["B"], sizes["Hkv"], sizes["D"], sizes["columns"]
    means = nl.ndarray((P, B * Hkv), dtype=nl.float32, buffer=nl.sbuf)  # l over the number of keys, of all rows
    checks = nl.ndarray((P, B * Hkv), dtype=nl.float32, buffer=nl.sbuf)  # sums of their outputs
    nisa.memset(means, 1.0, engine=nisa.engine.gpsimd)
    nisa.memset(checks, 0.0, engine=nisa.engine.gpsimd)
    counts = nl.ndarray((P, B), dtype=nl.float32, buffer=nl.sbuf)  # 1 / (lengths + T)
    nisa.tensor_scalar(dst=counts, data=new["lengths"], op0=nl.add, operand0=float(sizes["T"]))
    nisa.reciprocal(dst=counts, data=counts)
    ones = _constant((P, 1), 1.0)
    identity = nl.shared_identity_matrix(P, dtype=new["v"].dtype)

    steps = []  # (b, g, chunk), None for the new tokens, which begin
    for b in range(B):
        for g in range(Hkv):
            steps.append((b, g, None))
            for c in range(len(cache["chunks"])):
                steps.append((b, g, c))
    scored, seen, sums, values = [], {}, None, None
    for s in range(len(steps) + 2):  # the weights of two steps are on their way while those of one are collected
        if s < len(steps):
            b, g, c = steps[s]
            if c == None:
                if g == 0:
                    values = _load_new_values(new, b)
                    new["spread"] = _spread(new, b, cache["k"].dtype)
                scored.append(_score_new(b, g, new, values, sizes))
            else:
                scored.append(_score(b, g, c, new, cache, seen, identity, sizes))
        if s > 1:
            b, g, c = steps[s - 2]
            if c == None:
                sums = nl.ndarray((P, -(-D // P) * n + 1), dtype=nl.float32, buffer=nl.psum)  # v^T p by 128 of D, and l
            p, tiles, weights = scored[s - 2]
            for t in range(len(tiles)):
                for d in range(0, D, P):
                    rows = min(P, D - d)
                    nisa.nc_matmul(
                        dst=sums[0:rows, d // P * n : (d // P + 1) * n],
                        stationary=tiles[t][:, d : d + rows],
                        moving=p[:, t, :],
                        accumulate=c != None or t > 0,
                    )
            nisa.nc_matmul(
                dst=sums[0:n, sums.shape[1] - 1 :],
                stationary=weights,
                moving=ones[0 : weights.shape[0], :],
                accumulate=c != None,
            )
            if c == len(cache["chunks"]) - 1:
                at = b * Hkv + g
                _finish(out, b, g, sums, counts, means[:, at : at + 1], checks[:, at : at + 1], sizes)
    return _suspect(means, checks)


def _score_new(b, g, new, values, sizes):
    """(p[T, 1, n], [v[T, D]], sums of p over its second dimension) of the new tokens."""
    T, n = sizes["T"], sizes["columns"]
    scores = nl.ndarray((T, n), dtype=nl.float32, buffer=nl.psum)
    _multiply(scores, _columns(new["k"], b * sizes["Hkv"] + g, T), _columns(new["q"], b * sizes["Hkv"] + g, n))
    p = nl.ndarray((T, 1, n), dtype=new["v"].dtype, buffer=nl.sbuf)
    nisa.activation(dst=p[:, 0, :], op=nl.exp, data=scores, scale=_exponent(sizes, g, T))
    _hide_later(p[:, 0, :], T, 0.0)
    weights = nl.ndarray((T, n), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=weights, src=p[:, 0, :])
    return p, [values[:, g, :]], weights


def _hide_later(tile, T, value):
    """tile[key, (head, query)] = value where the new token `key` comes after the query."""
    if T > 1:
        nisa.affine_select(
            dst=tile,
            pattern=[[0, tile.shape[1] // T], [1, T]],
            channel_multiplier=-1,
            on_true_tile=tile,
            on_false_value=value,
            cmp_op=nl.greater_equal,
        )


def _score(b, g, c, new, cache, seen, identity, sizes):
    """(p[m, run, n], v of each column, sums of p over the columns) of a chunk; p is 0 for keys that are not there."""
    n = sizes["columns"]
    _, m, run = cache["chunks"][c]
    keys, values = _load(cache, "k", b, g, c), _load(cache, "v", b, g, c)
    if (b, c) not in seen:
        seen[(b, c)] = nl.ndarray((m, run, 1), dtype=new["v"].dtype, buffer=nl.sbuf)
        nisa.tensor_scalar(
            dst=seen[(b, c)][:, :, 0], data=cache["positions"][c], op0=nl.less, operand0=new["lengths"][0:m, b : b + 1]
        )
    scores = nl.ndarray((m, run, n), dtype=nl.float32, buffer=nl.psum)
    each = _tiles_of_a_bank(keys)
    for t0 in range(0, run, each):
        for t, count, parts in _transpose(keys[:, t0 : min(t0 + each, run), :], identity, c + t0 // each):
            queries = []
            for d in range(len(parts)):
                queries.append(new["spread"][d][0 : parts[d].shape[0], 0:count, g * n : (g + 1) * n])
            _multiply(scores[:, t0 + t : t0 + t + count, :], parts, queries)
    p = nl.ndarray((m, run, n), dtype=new["v"].dtype, buffer=nl.sbuf)
    nisa.activation(dst=p, op=nl.exp, data=scores, scale=_exponent(sizes, g, m))
    nisa.tensor_tensor(dst=p, data1=p, data2=seen[(b, c)].broadcast(2, n), op=nl.multiply)
    weights = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_reduce(dst=weights, op=nl.add, data=p.permute((0, 2, 1)), axis=2)
    columns = []
    for t in range(run):
        columns.append(values[:, t, :])
    return p, columns, weights


def _is_paired(dtype, D):
    """Whether keys are transposed as pairs of float8, 16 bits that the Tensor Engine moves bit for bit."""
    return dtype == nl.float8_e4m3 and D % 2 == 0 and nisa.get_nc_version() != nisa.nc_version.gen2


def _is_multiplied(dtype, D):
    """Whether keys are transposed by a product with the identity, into float32."""
    return nisa.get_nc_version() == nisa.nc_version.gen2 or dtype == nl.float8_e4m3 and D % 2 == 1


def _pack(dtype, D):
    """(elements of a key as it is transposed, tiles of keys that are transposed at once: as many as fit, where each
    begins at a row that it may).
    """
    width = D // 2 if _is_paired(dtype, D) else D
    return width, P // width if width in (32, 64) else 1


def _tiles_of_a_bank(keys):
    """How many tiles of keys fit transposed into a PSUM bank."""
    D = keys.shape[2]
    _, pack = _pack(keys.dtype, D)
    return (4 if keys.dtype == nl.float32 or _is_multiplied(keys.dtype, D) else 8) * pack


def _spread(new, b, dtype):
    """q^T of a sequence as what `_transpose` gives of keys of a dtype is multiplied by: tiles [rows, pack, H T].

    Tiles of keys that were transposed at once lie below each other, and so are multiplied at once: each has the queries
    in its own rows and columns, beside zeros. Of pairs there is a tile for the first of each and one for the second.
    """
    _, H, T, D = new["rows"].shape
    N, (width, pack) = H * T, _pack(dtype, D)
    transposed = _columns(new["q"], b, N)
    if pack == 1 and not _is_paired(dtype, D):
        found = []
        for part in transposed:
            found.append(part.reshape((part.shape[0], 1, N)))
        return found
    q = new["rows"][b].reshape((N, D))
    spread = []
    for _ in range(D // width):
        spread.append(nl.ndarray((width * pack, pack, N), dtype=q.dtype, buffer=nl.sbuf))
        nisa.memset(spread[len(spread) - 1], 0.0)
    for n0 in range(0, N, P):
        n = min(P, N - n0)
        halves = [transposed[0][:, n0 : n0 + n]]
        if _is_paired(dtype, D):
            pairs = nl.ndarray((n, width, 2), dtype=q.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=pairs.reshape((n, D)), src=q[n0 : n0 + n, :])
            halves = []
            for e in range(2):
                halves.append(nl.ndarray((width, n), dtype=q.dtype, buffer=nl.psum))
                nisa.nc_transpose(dst=halves[e], data=pairs[:, :, e])
        for e in range(len(halves)):
            for w in range(pack):
                nisa.tensor_copy(dst=spread[e][w * width : (w + 1) * width, w, n0 : n0 + n], src=halves[e])
    return spread


def _transpose(keys, identity, turn):
    """keys[m, tiles, D] as (first tile, tiles, k^T of these below each other, in parts for the tiles of `_spread`).

    Vector and Scalar take turns to copy.
    """
    m, tiles, D = keys.shape
    is_paired, is_multiplied = _is_paired(keys.dtype, D), _is_multiplied(keys.dtype, D)
    D, pack = _pack(keys.dtype, D)
    flat = keys.reshape((m, tiles * keys.shape[2]))
    if is_paired:
        flat = flat.view(nl.bfloat16)
    found = []
    for t in range(0, tiles, pack):
        found.append((t, min(pack, tiles - t), []))
    for d in range(0, pack * D, P):
        rows, columns = min(P, pack * D - d), len(found)
        in_psum = nl.ndarray((rows, columns, m), dtype=nl.float32 if is_multiplied else flat.dtype, buffer=nl.psum)
        part = nl.ndarray((rows, columns, m), dtype=nl.uint16 if is_paired else identity.dtype, buffer=nl.sbuf)
        for c in range(columns):
            begin = c * pack * D + d
            end = min(begin + rows, tiles * D)
            data, dst = flat[:, begin:end], in_psum[0 : end - begin, c, :]
            if is_multiplied:
                nisa.nc_matmul(dst=dst, stationary=data, moving=identity[0:m, 0:m], accumulate=False)
            else:
                nisa.nc_transpose(dst=dst, data=data)
        source = in_psum.view(nl.uint16) if is_paired else in_psum  # a copy of integers keeps every bit
        for rows_of, a, z in ((rows, 0, tiles // pack), (tiles % pack * D, columns - 1, columns)):
            if rows_of > 0 and a < z:
                if (turn + d // P) % 2 == 0:
                    nisa.tensor_copy(
                        dst=part[0:rows_of, a:z, :], src=source[0:rows_of, a:z, :], engine=nisa.engine.vector
                    )
                else:
                    nisa.activation(dst=part[0:rows_of, a:z, :], op=nl.copy, data=source[0:rows_of, a:z, :])
        for c in range(columns):
            _, count, parts = found[c]
            height = min(rows, count * D)
            if is_paired:
                pairs = part.view(keys.dtype).reshape((rows, columns, m, 2))
                parts.append(pairs[0:height, c, :, 0])
                parts.append(pairs[0:height, c, :, 1])
            else:
                parts.append(part[0:height, c, :])
    return found


def _multiply(dst, stationary, moving):
    """dst = the sum over the parts of D of stationary^T moving."""
    for d in range(len(stationary)):
        nisa.nc_matmul(dst=dst, stationary=stationary[d], moving=moving[d], accumulate=d > 0)


def _columns(parts, block, n):
    """Columns block * n .. of each part."""
    found = []
    for part in parts:
        found.append(part[:, block * n : (block + 1) * n])
    return found


def _finish(out, b, g, sums, counts, means, checks, sizes):
    """Transpose the sums, divide them by l, store them, and note what each row has to prove."""
    D, n, group = sizes["D"], sizes["columns"], sizes["group"]
    total = nl.ndarray((n, D + 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=total[:, D : D + 1], src=sums[0:n, sums.shape[1] - 1 :])
    for d in range(0, D, P):
        rows = min(P, D - d)
        part = nl.ndarray((rows, n), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_copy(dst=part, src=sums[0:rows, d // P * n : (d // P + 1) * n])
        turned = nl.ndarray((n, rows), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_transpose(dst=turned, data=part)
        nisa.tensor_copy(dst=total[:, d : d + rows], src=turned)
    inverse = nl.ndarray((n, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.reciprocal(dst=inverse, data=total[:, D : D + 1])
    _scale_values(inverse, g, sizes)
    result = nl.ndarray((n, D), dtype=out.dtype, buffer=nl.sbuf)
    nisa.tensor_scalar_reduce(
        dst=result,
        data=total[:, 0:D],
        op0=nl.multiply,
        operand0=inverse,
        reduce_op=nl.add,
        reduce_res=checks[0:n, :],
    )
    nisa.tensor_tensor(dst=means[0:n, :], data1=total[:, D : D + 1], data2=counts[0:n, b : b + 1], op=nl.multiply)
    nisa.dma_copy(dst=out[b, g * group : (g + 1) * group, :, :].reshape((n, D)), src=result)


def _scale_values(inverse, g, sizes):
    """inverse[n, 1] *= v_scale[g]."""
    if sizes["v_scale"] != None:
        column = sizes["v_scale"][0 : inverse.shape[0], g : g + 1]
        nisa.tensor_tensor(dst=inverse, data1=inverse, data2=column, op=nl.multiply)


def _suspect(means, checks):
    """suspect[1, n], int32: 1 where a row of the column has a mean out of range or an output that is not finite."""
    n = means.shape[1]
    clipped = nl.ndarray((P, n), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=clipped, data=means, op0=nl.maximum, operand0=LEAST, op1=nl.minimum, operand1=MOST)
    proof = nl.ndarray((P, n), dtype=nl.float32, buffer=nl.sbuf)  # the mean, or NaN
    nisa.scalar_tensor_tensor(dst=proof, data=checks, op0=nl.multiply, operand0=0.0, op1=nl.add, operand1=means)
    wrong = nl.ndarray((P, n), dtype=nl.bfloat16, buffer=nl.sbuf)
    nisa.tensor_tensor(dst=wrong, data1=clipped, data2=proof, op=nl.not_equal)  # NaN equals nothing
    ones = _constant((P, 1), 1.0, nl.bfloat16)
    suspect = nl.ndarray((1, n), dtype=nl.int32, buffer=nl.sbuf)
    for c in range(0, n, BANK):
        end = min(c + BANK, n)
        count = nl.ndarray((1, end - c), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=count, stationary=ones, moving=wrong[:, c:end], accumulate=False)
        nisa.tensor_scalar(dst=suspect[:, c:end], data=count, op0=nl.minimum, operand0=1.0)
    return suspect


def _repair(out, new, cache, sizes, suspect):
    """Compute the suspect (b, g) again. The loops run once or never: a device's way to branch."""
    worst = nl.ndarray((1, 1), dtype=nl.int32, buffer=nl.sbuf)
    nisa.tensor_reduce(dst=worst, op=nl.maximum, data=suspect, axis=1)
    any_suspect = nisa.register_alloc()
    nisa.register_load(any_suspect, worst)

    def search(_):
        for b in range(sizes["B"]):
            for g in range(sizes["Hkv"]):
                at = b * sizes["Hkv"] + g
                is_suspect = nisa.register_alloc()
                nisa.register_load(is_suspect, suspect[:, at : at + 1])

                def again(_, b=b, g=g):
                    _exactly(out, b, g, new, cache, sizes)

                nl.fori_loop(0, is_suspect, again)

    nl.fori_loop(0, any_suspect, search)


def _exactly(out, b, g, new, cache, sizes):
    """The outputs of (b, g) for all inputs, in two passes, as `_exactly` of `attention` has them.

    The first finds the largest score of each row, with queries on the partitions. The second subtracts it by a matmul
    of a single row, so that p <= 1 / keys and no sum overflows. Values that are not finite are 0 in the product; a
    second product of zeros and ones counts those that a query sees. Keys that are not there are taken out by
    selection: what lies in a cache behind its tokens may be NaN. DMA transposes, because NeuronCore-v2's Tensor Engine
    spreads NaN.
    """
    T, D, n, group = sizes["T"], sizes["D"], sizes["columns"], sizes["group"]
    at = b * sizes["Hkv"] + g
    queries, keys = _columns(new["q"], at, n), _columns(new["k"], at, T)
    minus_m = _minus_maximum(b, g, queries, keys, new, cache, sizes)
    ones = _constant((1, P), 1.0)
    spread = _constant((P, 1), 0.0 if new["v"].dtype == nl.float16 else -math.log(sizes["S"] + T))
    sums = nl.ndarray((n, D + 1), dtype=nl.float32, buffer=nl.psum)
    counts = nl.ndarray((n, 2 * D), dtype=nl.float32, buffer=nl.psum)

    def weigh(stationary, m):
        scores = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.psum)
        _multiply(scores, stationary, queries)
        nisa.nc_matmul(dst=scores, stationary=ones[:, 0:m], moving=minus_m, accumulate=True)
        p = nl.ndarray((m, n), dtype=new["v"].dtype, buffer=nl.sbuf)
        nisa.activation(dst=p, op=nl.exp, data=scores, bias=spread[0:m, :], scale=_exponent(sizes, g, m))
        sees = _constant((m, n), 1.0, nl.bfloat16)
        return p, sees

    def collect(p, sees, value, is_first):
        values, odd = _sift(value)
        nisa.nc_matmul(dst=sums, stationary=p, moving=values, accumulate=not is_first)
        nisa.nc_matmul(dst=counts, stationary=sees, moving=odd, accumulate=not is_first)

    p, sees = weigh(keys, T)
    _hide_later(p, T, 0.0)
    _hide_later(sees, T, 0.0)
    collect(p, sees, _load_new_values(new, b)[:, g, :], True)
    for c in range(len(cache["chunks"])):
        _, m, run = cache["chunks"][c]
        hidden = _where(cache["positions"][c], nl.greater_equal, new["lengths"][0:m, b : b + 1])
        tile, value = _widened(_load(cache, "k", b, g, c), new), _widened(_load(cache, "v", b, g, c), new)
        for t in range(run):
            p, sees = weigh(_transposed(tile[:, t, :]), m)
            is_hidden = hidden[:, t : t + 1].broadcast(1, n)
            nisa.tensor_copy_predicated(dst=p, src=0.0, predicate=is_hidden)
            nisa.tensor_copy_predicated(dst=sees, src=0.0, predicate=is_hidden)
            collect(p, sees, value[:, t, :], False)

    total = nl.ndarray((n, D + 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=total, src=sums)
    inverse = nl.ndarray((n, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.reciprocal(dst=inverse, data=total[:, D : D + 1])
    _scale_values(inverse, g, sizes)
    result = nl.ndarray((n, D), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=result, data=total[:, 0:D], op0=nl.multiply, operand0=inverse)
    for c, sign in ((0, 2.0), (D, -2.0)):  # a count of 0 adds 0, any other an infinity; NaN counts among both
        odd, infinite = counts[:, c : c + D], nl.ndarray((n, D), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=infinite, data=odd, op0=nl.multiply, operand0=LARGEST, op1=nl.multiply, operand1=sign)
        nisa.tensor_tensor(dst=result, data1=result, data2=infinite, op=nl.add)
    rounded = nl.ndarray((n, D), dtype=out.dtype, buffer=nl.sbuf)
    nisa.tensor_copy(dst=rounded, src=result)
    nisa.dma_copy(dst=out[b, g * group : (g + 1) * group, :, :].reshape((n, D)), src=rounded)


def _minus_maximum(b, g, queries, new_keys, new, cache, sizes):
    """-m[1, n], a row: the largest score of each query over the keys that it sees."""
    T, n = sizes["T"], sizes["columns"]
    top = nl.ndarray((n, 1), dtype=nl.float32, buffer=nl.sbuf)
    scores = nl.ndarray((T, n), dtype=nl.float32, buffer=nl.psum)
    _multiply(scores, new_keys, queries)
    seen = nl.ndarray((T, n), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=seen, src=scores)
    _hide_later(seen, T, HIDDEN)
    turned = nl.ndarray((n, T), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_transpose(dst=turned, src=seen)
    nisa.tensor_reduce(dst=top, op=nl.maximum, data=turned, axis=1)
    for c in range(len(cache["chunks"])):
        j0, m, run = cache["chunks"][c]
        tile = _widened(_load(cache, "k", b, g, c), new)
        for t in range(run):
            scores = nl.ndarray((n, m), dtype=nl.float32, buffer=nl.psum)
            _multiply(scores, queries, _transposed(tile[:, t, :]))
            positions = nl.ndarray((n, m), dtype=nl.float32, buffer=nl.sbuf)
            nisa.iota(dst=positions, pattern=[[run, m]], offset=j0 + t)
            hidden = _where(positions, nl.greater_equal, new["lengths"][0:n, b : b + 1])
            seen = nl.ndarray((n, m), dtype=nl.float32, buffer=nl.sbuf)
            nisa.tensor_copy(dst=seen, src=scores)
            nisa.tensor_copy_predicated(dst=seen, src=HIDDEN, predicate=hidden)
            most = nl.ndarray((n, 1), dtype=nl.float32, buffer=nl.sbuf)
            nisa.tensor_reduce(dst=most, op=nl.maximum, data=seen, axis=1)
            nisa.tensor_tensor(dst=top, data1=top, data2=most, op=nl.maximum)
    nisa.tensor_scalar(dst=top, data=top, op0=nl.multiply, operand0=-1.0)
    row = nl.ndarray((1, n), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_transpose(dst=row, src=top)
    return row


def _sift(value):
    """Of value[m, D]: [v | 1] with 0 for what is not finite, and [+inf or NaN | -inf or NaN] as ones."""
    m, D = value.shape
    values = nl.ndarray((m, D + 1), dtype=value.dtype, buffer=nl.sbuf)
    nisa.memset(values[:, D : D + 1], 1.0, engine=nisa.engine.gpsimd)
    tile = values[:, 0:D]
    nisa.tensor_copy(dst=tile, src=value)
    odd = nl.ndarray((m, 2 * D), dtype=nl.bfloat16, buffer=nl.sbuf)
    for c, inside, bound in ((0, nl.less_equal, LARGEST), (D, nl.greater_equal, -LARGEST)):
        nisa.tensor_scalar(dst=odd[:, c : c + D], data=tile, op0=inside, operand0=bound, op1=nl.equal, operand1=0.0)
    # 0 times a finite number is 0, and times any other NaN, which equals nothing.
    is_odd = nl.ndarray((m, D), dtype=nl.uint16, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=is_odd, data=tile, op0=nl.multiply, operand0=0.0, op1=nl.not_equal, operand1=0.0)
    nisa.tensor_copy_predicated(dst=tile, src=0.0, predicate=is_odd)
    return values, odd


def _load(cache, which, b, g, c):
    """Chunk c of (b, g) of a cache: [m, run, D]."""
    source = cache[which]
    j0, m, run = cache["chunks"][c]
    D = source.shape[3]
    tile = nl.ndarray((m, run, D), dtype=source.dtype, buffer=nl.sbuf)
    flat = tile.reshape((m, run * D))
    if cache["rows"] == None:
        nisa.dma_copy(dst=flat, src=source[b, g, j0 : j0 + m * run, :].reshape((m, run * D)))
        return tile
    runs = source.reshape((source.shape[0] * source.shape[1] * (source.shape[2] // run), run * D))
    _move(flat, runs, cache["rows"][g][0:m, b, c : c + 1], "gather")
    return tile


def _widened(tile, new):
    """A tile of float8 in the dtype of the queries, which holds every such number; any other as it is."""
    if tile.dtype == new["v"].dtype:
        return tile
    wide = nl.ndarray(tile.shape, dtype=new["v"].dtype, buffer=nl.sbuf)
    nisa.tensor_copy(dst=wide, src=tile)
    return wide


def _constant(shape, value, dtype=nl.float32, engine=nisa.engine.unknown):
    """A tile in SBUF, filled with a number."""
    tile = nl.ndarray(shape, dtype=dtype, buffer=nl.sbuf)
    nisa.memset(tile, value, engine=engine)
    return tile


def _where(tile, compare, operand):
    """A predicate: where a comparison of a tile with a number or a column is true."""
    found = nl.ndarray(tile.shape, dtype=nl.uint16, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=found, data=tile, op0=compare, operand0=operand)
    return found


def _move(tile, rows, index, way):
    """Gather tile[m, :] from, or scatter it to, rows[index[m, 1], :] of an HBM tensor."""
    if nisa.get_nc_version() == nisa.nc_version.gen2:  # one dynamic address a transfer
        for p in range(tile.shape[0]):
            row, one = rows.select(0, index[p : p + 1, :]), tile[p : p + 1, :]
            nisa.dma_copy(dst=one if way == "gather" else row, src=row if way == "gather" else one)
        return
    chosen = rows.vector_select(0, index)
    nisa.dma_copy(dst=tile if way == "gather" else chosen, src=chosen if way == "gather" else tile)


def _load_pages(page_table, pages):
    """The page table, int32 [B, pages of a sequence], in SBUF; entries are clipped to the pages that there are."""
    table = nl.ndarray(page_table.shape, dtype=nl.int32, buffer=nl.sbuf)
    nisa.dma_copy(dst=table, src=page_table)
    nisa.tensor_scalar(dst=table, data=table, op0=nl.maximum, operand0=0, op1=nl.minimum, operand1=pages - 1)
    return table


def _rows_of_runs(table, Hkv, u, each):
    """For each g the runs of the cache, (page, g, part of the page), that chunks gather: int32 [each, B, chunks]."""
    B, pages = table.shape
    chunks = -(-pages * u // each)
    begins = _times(table, Hkv * u)
    rows = nl.ndarray((B, chunks * each), dtype=nl.int32, buffer=nl.sbuf)  # of g = 0, a sequence a partition
    nisa.memset(rows, 0)
    used = rows[:, 0 : pages * u].reshape((B, pages, u))
    nisa.iota(dst=used, pattern=[[0, pages], [1, u]])
    nisa.tensor_tensor(dst=used, data1=used, data2=begins.reshape((B, pages, 1)).broadcast(2, u), op=nl.add)
    in_hbm = nl.ndarray(rows.shape, dtype=nl.int32, buffer=nl.private_hbm)
    nisa.dma_copy(dst=in_hbm, src=rows)
    found = [nl.ndarray((each, B, chunks), dtype=nl.int32, buffer=nl.sbuf)]  # a run a partition
    nisa.dma_copy(dst=found[0], src=in_hbm.reshape((B, chunks, each)).permute((2, 0, 1)))
    step = _constant((each, B, chunks), u, nl.int32)
    for g in range(1, Hkv):
        found.append(nl.ndarray((each, B, chunks), dtype=nl.int32, buffer=nl.sbuf))
        nisa.tensor_tensor(dst=found[g], data1=found[g - 1], data2=step, op=nl.add)
    return found


def _times(tile, factor):
    """An int32 tile times a number, as integers: a tile and a number would be multiplied in float32."""
    factors = _constant(tile.shape, factor, nl.int32)
    product = nl.ndarray(tile.shape, dtype=nl.int32, buffer=nl.sbuf)
    nisa.tensor_tensor(dst=product, data1=tile, data2=factors, op=nl.multiply)
    return product


def _places(lengths, table, page, sizes):
    """Which token of the cache each new one becomes: int32 [Hkv T, B] in tiles of up to 128 rows."""
    B, Hkv, T = sizes["B"], sizes["Hkv"], sizes["T"]
    length = nl.ndarray((B, 1), dtype=nl.int32, buffer=nl.sbuf)
    nisa.dma_copy(dst=length, src=lengths.reshape((B, 1)))
    rows = nl.ndarray((B, Hkv, T), dtype=nl.int32, buffer=nl.sbuf)
    for i in range(T):
        ith = rows[:, :, i : i + 1]
        if table == None:
            begin = length
            nisa.iota(dst=ith, pattern=[[page, Hkv], [1, 1]], offset=i, channel_multiplier=Hkv * page)
        else:
            begin = _place(length, i, table, page, Hkv * page)
            nisa.iota(dst=ith, pattern=[[page, Hkv], [1, 1]])
        nisa.tensor_tensor(dst=ith, data1=ith, data2=begin.reshape((B, 1, 1)).broadcast(1, Hkv), op=nl.add)
    in_hbm = nl.ndarray((B, Hkv * T), dtype=nl.int32, buffer=nl.private_hbm)
    nisa.dma_copy(dst=in_hbm, src=rows.reshape((B, Hkv * T)))
    places = []  # one a partition
    for n0 in range(0, Hkv * T, P):
        end = min(n0 + P, Hkv * T)
        places.append(nl.ndarray((end - n0, B), dtype=nl.int32, buffer=nl.sbuf))
        nisa.dma_copy(dst=places[len(places) - 1], src=in_hbm[:, n0:end].permute((1, 0)))
    return places


def _append(new, cache, places):
    """Write new[B, Hkv, T, D] to where `_places` says."""
    B, Hkv, T, D = new.shape
    tokens = cache.reshape((cache.shape[0] * Hkv * cache.shape[2], D))
    for b in range(B):
        source = new[b].reshape((Hkv * T, D))
        for c in range(len(places)):
            _move(source[c * P : min((c + 1) * P, Hkv * T), :], tokens, places[c][:, b : b + 1], "scatter")


def _place(length, i, table, page, stride):
    """table[b, j // page] * stride + j % page for j = length[b] + i: int32 [B, 1]."""
    B, pages = table.shape
    j = nl.ndarray((B, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=j, data=length, op0=nl.add, operand0=float(i))
    at = nl.ndarray((B, 1), dtype=nl.int32, buffer=nl.sbuf)  # (j + 1/2) / page - 1/2, never a half, is rounded
    half = nl.ndarray((B, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=half, data=j, op0=nl.add, operand0=0.5, op1=nl.multiply, operand1=1.0 / page)
    nisa.tensor_scalar(dst=at, data=half, op0=nl.subtract, operand0=0.5)
    which = nl.ndarray((B, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=which, src=at)
    numbers = nl.ndarray((B, pages), dtype=nl.float32, buffer=nl.sbuf)
    nisa.iota(dst=numbers, pattern=[[1, pages]])
    chosen = nl.ndarray((B, pages), dtype=nl.float32, buffer=nl.sbuf)  # the entry where it is, and 0
    nisa.scalar_tensor_tensor(dst=chosen, data=numbers, op0=nl.equal, operand0=which, op1=nl.multiply, operand1=table)
    entry = nl.ndarray((B, 1), dtype=nl.int32, buffer=nl.sbuf)
    nisa.tensor_reduce(dst=entry, op=nl.add, data=chosen, axis=1)
    rest = nl.ndarray((B, 1), dtype=nl.int32, buffer=nl.sbuf)  # j - page * which
    nisa.scalar_tensor_tensor(dst=rest, data=which, op0=nl.multiply, operand0=-float(page), op1=nl.add, operand1=j)
    place = _times(entry, stride)
    nisa.tensor_tensor(dst=place, data1=place, data2=rest, op=nl.add)
    return place


def _transposed(source):
    """source[N, D], in HBM or SBUF, as SBUF tiles [up to 128 of D, N], bit for bit on every generation."""
    tiles, D = [], source.shape[1]
    for d in range(0, D, P):
        rows = min(P, D - d)
        tile = nl.ndarray((rows, source.shape[0]), dtype=source.dtype, buffer=nl.sbuf)
        nisa.dma_transpose(dst=tile, src=source[:, d : d + rows])
        tiles.append(tile)
    return tiles


def _load_new_values(new, b):
    """v_new of sequence b with its tokens on the partitions: [T, Hkv, D]."""
    _, Hkv, T, D = new["v"].shape
    tile = nl.ndarray((T, Hkv, D), dtype=new["v"].dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=new["v"][b].permute((1, 0, 2)))
    return tile


def _check(q, k_new, v_new, k_cache, v_cache, lengths, page_table, k_scale, v_scale):
    assert len(q.shape) == 4 and len(k_new.shape) == 4 and k_new.shape == v_new.shape, (
        f"attention_decode takes q[B, H, T, D], k_new and v_new[B, Hkv, T, D], got shapes {q.shape}, {k_new.shape} and "
        f"{v_new.shape}"
    )
    B, H, T, D = q.shape
    Hkv = k_new.shape[1]
    assert (k_new.shape[0], k_new.shape[2], k_new.shape[3]) == (B, T, D), (
        f"q and k_new must share B, T and D, got {q.shape} and {k_new.shape}"
    )
    assert H % Hkv == 0, f"query heads must be a multiple of key heads, got {H} and {Hkv}"
    columns = H // Hkv * T
    assert columns <= P, f"a key head has at most {P} queries, got {H // Hkv} heads of {T} tokens"
    assert D <= 2 * P, f"the head dimension is at most {2 * P}, got {D}"
    assert B <= P, f"a call takes at most {P} sequences, got {B}"
    assert len(k_cache.shape) == 4 and k_cache.shape == v_cache.shape, (
        f"the caches must have one shape of four dimensions, got {k_cache.shape} and {v_cache.shape}"
    )
    assert k_cache.shape[1] == Hkv and k_cache.shape[3] == D, (
        f"the caches must have Hkv = {Hkv} and D = {D}, got {k_cache.shape}"
    )
    if page_table == None:
        assert k_cache.shape[0] == B, f"the caches must have B = {B} sequences, got {k_cache.shape}"
        S = k_cache.shape[2]
    else:
        assert len(page_table.shape) == 2 and page_table.shape[0] == B, (
            f"page_table must be [B = {B}, pages of a sequence], got {page_table.shape}"
        )
        S = page_table.shape[1] * k_cache.shape[2]
    assert lengths.shape == (B,), f"lengths must be [B = {B}], got {lengths.shape}"
    for tensor in (k_new, v_new):
        assert tensor.dtype == q.dtype, f"q and new tokens must have one dtype, got {q.dtype} and {tensor.dtype}"
    assert q.dtype == nl.float32 or q.dtype == nl.bfloat16 or q.dtype == nl.float16, (
        f"attention_decode takes float32, bfloat16 or float16, got {q.dtype}"
    )
    is_scaled = k_scale != None or v_scale != None
    cached = nl.float8_e4m3 if is_scaled else q.dtype
    for tensor in (k_cache, v_cache):
        assert tensor.dtype == cached, (
            f"caches have the dtype of q, or with k_scale and v_scale float8_e4m3: {cached} here, got {tensor.dtype}"
        )
    if is_scaled:
        assert q.dtype != nl.float32, "the Tensor Engine does not take float32 queries beside a float8 cache"
        assert k_scale != None and v_scale != None and k_scale.shape == (Hkv,) and v_scale.shape == (Hkv,), (
            f"k_scale and v_scale go together and must be [Hkv = {Hkv}], got "
            f"{None if k_scale == None else k_scale.shape} and {None if v_scale == None else v_scale.shape}"
        )
    return {
        "B": B,
        "H": H,
        "Hkv": Hkv,
        "T": T,
        "D": D,
        "S": S,
        "group": H // Hkv,
        "columns": columns,
        "scale": 1.0 / D**0.5,
        "k_scale": None,  # times `scale`, and v_scale: float32 [128, Hkv], where the caches are float8
        "v_scale": None,
    }
