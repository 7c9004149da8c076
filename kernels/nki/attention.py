"""Flash attention, forward, with transposed scores: out = softmax(q k^T / sqrt(D)) v, and nobody looks for a maximum.

    out[b, h, i, :] = sum_j p[j, i] v[b, g, j, :] / l[i],    l[i] = sum_j p[j, i]
    p[j, i] = exp(s[j, i] / sqrt(D)),    s[j, i] = k[b, g, j, :] . q[b, h, i, :],    g = h // (H // Hkv)

Why keys on the partitions: the product with v sums over keys, and the Tensor Engine sums over partitions. Scores
computed as k q^T have their keys there already, so p is never transposed, and a column of ones beside v makes l a
by-product of p^T [v | 1]. What this layout cannot do fast is a maximum over keys, and it needs none: p has eight bits
of exponent (five in float16) and sums are float32, so any shift that keeps p in range gives the same significance. The
shift here is 0, and each row proves afterwards that it was right: l bounds its largest weight from both sides,

    l / n  <=  max_j p[j, i]  <=  l,    n = the keys that it sees.

Where LEAST <= l / n <= MOST and all outputs are finite, no p overflowed, and what was flushed to zero is less than
2^-13 of l. Tiles of 128 queries with a row that fails (large scores, NaN, infinities, values near the largest number)
are computed again by `_exactly`, under loops on registers that ordinary inputs never enter. Nothing is assumed of them,
but that weights of at most 1 / Sk, which leave room for the largest values, take it from the smallest: in such a tile
values below Sk times the smallest normal number, 2^-126, lose digits.

Per block of 512 queries and tile of 128 keys, D = 128:

    Tensor   s is one matmul, k stationary and 512 queries moving; four more add p^T [v | 1] for 128 queries each
    Scalar   p = exp(s / sqrt(D)) from PSUM to SBUF, two tiles of keys (two banks) an instruction
    Vector   every fourth of these as a power of exp(1 / sqrt(D)), so that Scalar is not the limit; 1 / l once a block
    GpSimd   with `causal`, zeros above the diagonal, in the 128 x 128 tiles of p on it alone
    DMA      transposes q and k on their way in; k and [v | 1] of a head stay in SBUF for all queries of its group

Dimensions
    B, H, Hkv   batch, query heads, key and value heads; H is a multiple of Hkv (grouped-query attention)
    Sq, Sk      queries and keys; any lengths, and they may differ
    D           head dimension, 1 to 256; above 128, s is two matmuls that add up in PSUM, and blocks have 256 queries

With `causal`, query i sees the keys j <= i + Sk - Sq, with `window` the last so many of these. A query that sees no key
gives zeros. NaN and infinities come out as the definition says: one that a query does not see does not reach it.

`attention_prefill` is the same for new tokens behind a cache, of which each sequence fills another part: the keys are
places of the cache, up to a multiple of 128, and then the new tokens, so that a program knows where the diagonal
lies. What is not filled weighs nothing because its row of [v | 1] is zeros: a product for each chunk, none for a query.

What else a score may go through, and where:

    window     tiles that no query of a block sees are not visited; GpSimd zeroes the second diagonal too
    softcap    exp(c tanh(s / (c sqrt(D)))): the tangent on Scalar, the exponential on Vector
    mask       transposed by DMA, added on Vector; minus infinity hides a key
    segments   a second product, of digits that differ, takes 2^100 from the scores of other segments' keys
    sinks      exp(sink) joins l
    with_lse   in bfloat16 and float16 Vector adds up l of the weights in float32, before GpSimd rounds them
"""

import math

import nki
import nki.isa as nisa
import nki.language as nl

P = 128  # partitions: keys of a tile of scores, queries of a tile of outputs
BANK = 512  # float32 numbers of a PSUM bank, which hold one matmul's result
FIRST = 512  # keys of the first load, for which the first matmuls wait; each later one doubles what is there, up to
CHUNK = 2048  # this many keys
RESIDENT = 128 * 1024  # bytes a partition that k and [v | 1] of a head may keep; longer ones are loaded for each block
LEAST, MOST = 2.0**-12, 2.0**90  # of l / n
MOST_TOTAL = 2.0**64  # of l, where its logarithm is wanted, and of 1 / l: what Scalar computes
FAR = 2.0**100  # what the score of a key of another segment loses
DIGIT = 64  # segments are two digits of 64
LARGEST = 3.4028234663852886e38  # finite float32
HIDDEN = -LARGEST  # score of a key that a query does not see, where a maximum is taken


@nki.jit
def attention(q, k, v, causal=False, window=None, softcap=None, sinks=None, mask=None, segments=None, with_lse=False):
    """out[B, H, Sq, D] = attention of q[B, H, Sq, D] over k[B, Hkv, Sk, D] and v[B, Hkv, Sk, D].

    softcap is a number; sinks[H] and mask[B or 1, H or 1, Sq, Sk] are arrays of a float type, segments[B, S] of int32.
    With with_lse also lse[B, H, Sq], float32: log sum_j exp of the scores of each query, which a backward pass needs.
    """
    B, H, Hkv, Sq, Sk, D = _check(q, k, v, causal, window, sinks, mask, segments)
    lse = nl.ndarray((B, H, Sq), dtype=nl.float32, buffer=nl.shared_hbm) if with_lse else None
    how = _plain(Sk, Sk - Sq if causal else Sk, Sk + Sq if window == None else window, D)
    how["softcap"], how["mask"], how["segments"] = softcap, mask, segments
    if sinks != None:
        how["sinks"] = _broadcast(sinks)
    if with_lse:
        how["most"], how["adds"] = MOST_TOTAL / Sk, q.dtype != nl.float32
    out = _forward(q, k, v, lse, how, max(0, Sq - Sk) if causal else 0)
    if with_lse:
        return out, lse
    return out


@nki.jit
def attention_prefill(q, k_new, v_new, k_cache, v_cache, lengths):
    """out[B, H, T, D] of q[B, H, T, D], k_new and v_new[B, Hkv, T, D], which it appends to the caches.

    Token i of sequence b sees the first lengths[b] tokens of k_cache, v_cache[B, Hkv, S, D] and the new ones up to
    itself, and is then at position lengths[b] + i of the caches, where there must be room. lengths[B] is int32.
    """
    B, H, Hkv, T, S, D = _check_prefill(q, k_new, v_new, k_cache, v_cache, lengths)
    padded = -(-(S - T) // P) * P  # the last T places are for the new tokens
    how = _plain(padded + T, padded, padded + 2 * T, D)  # the cache's keys, and then the new ones
    if padded > 0:
        how["cache"] = _filled(k_cache, v_cache, lengths, S - T, padded)
    out = _forward(q, k_new, v_new, None, how, 0)
    length = nl.ndarray((1, B), dtype=nl.int32, buffer=nl.sbuf)
    nisa.dma_copy(dst=length, src=lengths.reshape((1, B)))
    for new, cache in ((k_new, k_cache), (v_new, v_cache)):
        tokens = cache.reshape((B * Hkv * S, D))
        for b in range(B):
            pattern = [[S * D, Hkv], [D, T], [1, D]]
            dst = tokens.ap(pattern, offset=b * Hkv * S * D, scalar_offset=length[:, b : b + 1], indirect_dim=0)
            nisa.dma_copy(dst=dst, src=new[b])
    return out


def _plain(keys, shift, window, D):
    """What a score goes through, `how`, before any option is taken."""
    return {
        "keys": keys,
        "shift": shift,  # query i sees the keys up to i + shift
        "window": window,  # and of these so many
        "scale": 1.0 / D**0.5,
        "cache": None,
        "softcap": None,
        "sinks": None,
        "mask": None,
        "segments": None,
        "most": MOST,
        "adds": False,  # whether Vector adds up l, from weights that were not rounded
    }


def _filled(k_cache, v_cache, lengths, size, padded):
    """The cache as `how` has it: its first `size` places, in tiles up to `padded`, and which of them are filled."""
    B, tiles = lengths.shape[0], padded // P
    everywhere = nl.ndarray((P, B), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=everywhere, src=lengths.reshape((1, B)).broadcast(0, P))
    positions = nl.ndarray((P, tiles), dtype=nl.float32, buffer=nl.sbuf)
    nisa.iota(dst=positions, pattern=[[P, tiles]], channel_multiplier=1)
    filled = nl.ndarray((P, B, tiles, 1), dtype=nl.bfloat16, buffer=nl.sbuf)  # 1 or 0
    for b in range(B):
        nisa.tensor_scalar(dst=filled[:, b, :, 0], data=positions, op0=nl.less, operand0=everywhere[:, b : b + 1])
    return {"k": k_cache, "v": v_cache, "size": size, "padded": padded, "filled": filled, "lengths": everywhere}


def _forward(q, k, v, lse, how, first):
    """out of the queries from `first` on, and zeros before; lse too, unless it is None."""
    B, H, Sq, D = q.shape
    Hkv = k.shape[1]
    out = nl.ndarray(q.shape, dtype=q.dtype, buffer=nl.shared_hbm)
    size = BANK if D <= P else BANK // 2
    blocks = []  # (b, g, h, first query, queries)
    for b in range(B):
        for g in range(Hkv):
            for h in range(g * (H // Hkv), (g + 1) * (H // Hkv)):
                _fill(out[b, h], first, 0.0)
                if lse != None:
                    _fill(lse[b, h].reshape((Sq, 1)), first, -math.inf, how["sinks"], h)
                for i0 in range(first, Sq, size):
                    blocks.append((b, g, h, i0, min(size, Sq - i0)))
    suspect = _attempt(out, lse, q, k, v, blocks, how, size // P)
    _repair(out, lse, q, k, v, blocks, how, size // P, suspect)
    return out


def _attempt(out, lse, q, k, v, blocks, how, tiles):
    """Write out as if all scores were moderate; suspect[1, len(blocks) * tiles] is 0 where a tile passed, else 1."""
    means = nl.ndarray((P, len(blocks), tiles), dtype=nl.float32, buffer=nl.sbuf)  # l / n of all rows
    checks = nl.ndarray((P, len(blocks), tiles), dtype=nl.float32, buffer=nl.sbuf)  # sums of their outputs
    nisa.memset(means, 1.0, engine=nisa.engine.gpsimd)
    nisa.memset(checks, 0.0, engine=nisa.engine.gpsimd)
    totals = None
    if lse != None:
        totals = nl.ndarray((P, len(blocks), tiles), dtype=nl.float32, buffer=nl.sbuf)  # l of all rows
        nisa.memset(totals, 1.0, engine=nisa.engine.gpsimd)
    _warm_up()
    if how["sinks"] != None:
        how["weights of sinks"] = nl.ndarray(how["sinks"].shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation(dst=how["weights of sinks"], op=nl.exp, data=how["sinks"])

    banks, ahead, share = _plan(q, how)
    steps = []  # (block, a group of its pieces, which one, whether it is the last)
    for n in range(len(blocks)):
        _, _, _, i0, queries = blocks[n]
        groups = _groups(i0, queries, how, banks)
        for c in range(len(groups)):
            steps.append((n, groups[c], c, c == len(groups) - 1))

    loaded = {"head": None, "chunks": {}}  # what of k and [v | 1] is in SBUF
    scores, moving, sums = [], {}, {}
    for c in range(len(steps) + ahead):
        p = None
        if c >= ahead:
            p = _weigh(steps[c - ahead], blocks, scores[c - ahead], q, how, share)
        if c < len(steps):
            scores.append(_score(steps[c], blocks, q, k, v, how, loaded, moving))
        if c >= ahead:
            _collect(steps[c - ahead], blocks, scores[c - ahead], p, sums, how)
            n, _, _, is_last = steps[c - ahead]
            if is_last:
                of_l = None if totals == None else totals[:, n]
                _finish(out, blocks[n], sums[n][0], how, means[:, n], checks[:, n], of_l)
    if lse != None:
        _store_logarithms(lse, blocks, totals)
    return _suspect(means, checks, how["most"])


def _plan(q, how):
    """(banks, ahead, share): banks of scores that one exponential takes, how many groups of scores are there before the
    exponential of the first is done, and Vector takes one exponential of `share`, or none where it is 0.

    Two banks pay an exponential's fixed cost half as often. With D <= 64 Scalar alone would take longer than Tensor
    for the same tile. On NeuronCore-v2 Vector and Scalar take turns in PSUM, so that sharing gains nothing, and float32
    keeps the one exponential that is documented. A mask keeps Vector busy; a cap keeps Scalar busy. Where Vector adds
    up l it is the limit, and the sums of l take a bank.

    Engines run in the order that was planned before the first instruction ran, so that an exponential which ends late
    holds up the products behind it: scores fill all banks that the sums of a block leave, two of D > 64 and one else.
    """
    alone = q.dtype == nl.float32 or nisa.get_nc_version() == nisa.nc_version.gen2 or how["mask"] != None
    if how["adds"]:
        return 1, 3, 0
    if how["softcap"] != None:
        return 2, 3, 0 if alone or how["softcap"] > 64 else 1
    if q.shape[3] <= 64 and not alone:
        return 1, 7, 2
    return 2, 3, 0 if alone else 4


def _warm_up():
    """While the first loads are on their way: load the table of exp, and raise the Tensor Engine's clock."""
    one = _constant((1, 1), 0.0, nl.float32, nisa.engine.gpsimd)
    nisa.activation(dst=one, op=nl.exp, data=one)
    zeros = _constant((P, BANK), 0.0, nl.bfloat16)
    nothing = nl.ndarray((P, BANK), dtype=nl.float32, buffer=nl.psum)
    for _ in range(3):
        nisa.nc_matmul(dst=nothing, stationary=zeros[:, 0:P], moving=zeros, accumulate=False)


def _groups(i0, queries, how, banks):
    """The scores of a block as groups of pieces (first key, keys, first query, end of the queries, column in PSUM).

    A piece is a tile of up to 128 keys and those queries of the block, in whole tiles of 128, that see any of them. A
    group is what one exponential takes: pieces of as many keys each, in at most so many banks, without a gap.
    """
    shift, window = how["shift"], how["window"]
    groups, group, end, rows = [], [], 0, 0
    for j0 in range(max(0, i0 + shift - window + 1) // P * P, min(how["keys"], i0 + queries + shift), P):
        keys = min(P, _end(j0, how) - j0)
        f = max(0, j0 - shift - i0) // P * P
        e = min(queries, -(-(j0 + keys - 1 + window - shift - i0) // P) * P)
        n = e - f
        fits = end % BANK + n <= BANK and end + n <= banks * BANK
        if len(group) > 0 and (not fits or keys != rows):
            groups.append(group)
            group, end = [], 0
        group.append((j0, keys, f, e, end))
        end, rows = end + n, keys
    groups.append(group)
    return groups


def _end(j, how):
    """Where the keys end that lie in one tensor with key j: those of the cache, or the last ones."""
    return how["cache"]["size"] if how["cache"] != None and j < how["cache"]["padded"] else how["keys"]


def _source(which, new, b, g, j, how):
    """(rows [keys, D] of "k" or "v", the row of key j): the cache, or what is new."""
    cache = how["cache"]
    if cache == None:
        return new[b, g], j
    return (cache[which][b, g], j) if j < cache["padded"] else (new[b, g], j - cache["padded"])


def _score(step, blocks, q, k, v, how, loaded, moving):
    """The scores of a group in PSUM: (tile [keys, columns], and of each piece its [v | 1] and first row there).

    With segments a second product takes FAR from the scores of keys of other segments, and exactly 0 from the rest.
    """
    n, pieces, place, _ = step
    b, g, h, i0, queries = blocks[n]
    if place == 0:
        moving[n] = {"q": _load_transposed(q[b, h], i0, queries)}
        if how["segments"] != None:
            moving[n]["code"] = _code(how["segments"][b], i0, queries, nl.equal, -FAR)
    _, keys, f, e, at = pieces[len(pieces) - 1]
    scores = nl.ndarray((keys, at + e - f), dtype=nl.float32, buffer=nl.psum)
    values = []
    for j0, keys, f, e, at in pieces:
        chunk = _chunk(k, v, b, g, n, j0, how, loaded)
        j = j0 - chunk["from"]
        left, right = chunk["k"], moving[n]["q"]
        if how["segments"] != None:
            left, right = left + [chunk["code"]], right + [moving[n]["code"]]
        for d in range(len(left)):
            nisa.nc_matmul(
                dst=scores[:, at : at + e - f],
                stationary=left[d][:, j : j + keys],
                moving=right[d][:, f:e],
                accumulate=d > 0,
            )
        values.append(chunk["v"][0:keys, j // P, :])
    return scores, values


def _code(segments, s0, n, compare, factor):
    """[128, n] of the tokens s0 .. s0+n: (digit == r) or (digit != r) times a factor, r < 64, for both of two digits.

    A product of such columns, digits equal with digits not equal, counts the digits in which two segments differ.
    """
    tokens = nl.ndarray((P, n), dtype=nl.int32, buffer=nl.sbuf)
    nisa.dma_copy(dst=tokens, src=segments[s0 : s0 + n].reshape((1, n)).broadcast(0, P))
    code = nl.ndarray((P, n), dtype=nl.bfloat16, buffer=nl.sbuf)
    number = nl.ndarray((P, 1), dtype=nl.float32, buffer=nl.sbuf)
    for begin, bits in ((0, 0), (DIGIT, 6)):
        rows = slice(begin, begin + DIGIT)
        nisa.iota(dst=number[rows, :], pattern=[[0, 1]], channel_multiplier=1)
        digit, bit = tokens[rows, :], code[rows, :]
        nisa.tensor_scalar(
            dst=digit, data=digit, op0=nl.right_shift, operand0=bits, op1=nl.bitwise_and, operand1=DIGIT - 1
        )
        nisa.tensor_scalar(dst=bit, data=digit, op0=compare, operand0=number[rows, :], op1=nl.multiply, operand1=factor)
    return code


def _weigh(step, blocks, scored, q, how, share):
    """p of a group in SBUF, with zeros where a query does not see a key."""
    n, pieces, place, _ = step
    b, _, h, i0, _ = blocks[n]
    added = None
    if how["mask"] != None:
        added = nl.ndarray(scored[0].shape, dtype=how["mask"].dtype, buffer=nl.sbuf)
        for j0, keys, f, e, at in pieces:
            rows = _mask_of(how["mask"], b, h)[i0 + f : i0 + e, j0 : j0 + keys]
            nisa.dma_transpose(dst=added[:, at : at + e - f], src=rows)
    z, unit = _changed(scored[0], added, how), _unit(how)
    p = nl.ndarray(z.shape, dtype=nl.float32 if how["adds"] else q.dtype, buffer=nl.sbuf)
    if share > 0 and place % share == share // 2:
        nisa.tensor_scalar(dst=p, data=z, op0=nl.power, operand0=math.exp(unit), reverse0=True)
    else:
        nisa.activation(dst=p, op=nl.exp, data=z, scale=unit)
    for j0, _, f, e, at in pieces:
        _hide_unseen(p[:, at : at + e - f], i0 + f, j0, how, 0.0)
    return p


def _mask_of(mask, b, h):
    """The mask[Sq, Sk] of a head."""
    return mask[b % mask.shape[0], h % mask.shape[1]]


def _changed(scores, added, how):
    """z: scores after the cap and with what is added to them, in SBUF; or as they are. The exponent is z * `_unit`."""
    z = scores
    if how["softcap"] != None:
        z = nl.ndarray(scores.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation(dst=z, op=nl.tanh, data=scores, scale=how["scale"] / how["softcap"])
    if added != None:
        capped, unit = z, how["scale"] if how["softcap"] == None else how["softcap"]
        z = nl.ndarray(scores.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.scalar_tensor_tensor(dst=z, data=capped, op0=nl.multiply, operand0=unit, op1=nl.add, operand1=added)
    return z


def _unit(how):
    """What z is multiplied by in the exponent."""
    if how["mask"] != None:
        return 1.0
    return how["scale"] if how["softcap"] == None else how["softcap"]


def _hide_unseen(tile, i, j, how, value):
    """tile[keys from j, queries from i] = value where the query sees the key not yet, or no more."""
    keys, queries = tile.shape
    last = i + how["shift"] - j  # the row of the last key that the first query sees
    blind = min(queries, keys - 1 - last)  # queries that do not see all of the keys
    if blind > 0:
        _hide(tile[:, 0:blind], -1, 1, last, value)
    late = max(0, how["window"] - last)  # from this column on, the first key is too old
    if late < queries:
        _hide(tile[:, late:queries], 1, -1, how["window"] - 1 - last - late, value)


def _hide(tile, rows, columns, offset, value):
    """tile[r, c] = value where rows * r + columns * c + offset < 0."""
    nisa.affine_select(
        dst=tile,
        pattern=[[columns, tile.shape[1]]],
        channel_multiplier=rows,
        on_true_tile=tile,
        on_false_value=value,
        cmp_op=nl.greater_equal,
        offset=offset,
    )


def _collect(step, blocks, scored, p, sums, how):
    """Add p^T [v | 1] to the block's sums: a tile in PSUM for each 128 queries, as many as fit into a bank.

    Added up one by one in float32, l of a thousand equal weights is wrong by several units in the last place, and all
    outputs of the row with it. In bfloat16 and float16 their own rounding hides that; in float32 l is the sum of two
    columns, of p rounded to bfloat16, whose sum is exact, and of what that left.

    The logarithm of l shows that rounding of p in any dtype. Where it is wanted and v is of a narrow one, p is float32:
    Vector adds it up, keys modulo 128 apart, and GpSimd rounds it for the product.
    """
    n, pieces, place, is_last = step
    b, _, _, _, queries = blocks[n]
    _, values = scored
    D, dtype, adds = values[0].shape[1] - 1, values[0].dtype, how["adds"]
    is_split = dtype == nl.float32
    if place == 0:
        by_row = nl.ndarray((P, queries), dtype=nl.float32, buffer=nl.psum) if adds else None
        if adds:
            nisa.memset(by_row, 0.0)
        sums[n] = (_banks(queries, D + 2 if is_split or adds else D + 1), {}, by_row)
    banks, begun, by_row = sums[n]  # begun: the tiles of queries that have a sum
    if adds:
        for _, keys, f, e, at in pieces:
            row = by_row[0:keys, f:e]
            nisa.tensor_tensor(dst=row, data1=row, data2=p[:, at : at + e - f], op=nl.add)
        rounded = nl.ndarray(p.shape, dtype=dtype, buffer=nl.sbuf)
        nisa.tensor_copy(dst=rounded, src=p, engine=nisa.engine.gpsimd)
        p = rounded
    if is_split:
        coarse = nl.ndarray(p.shape, dtype=nl.bfloat16, buffer=nl.sbuf)
        nisa.tensor_copy(dst=coarse, src=p)
        fine = nl.ndarray(p.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=fine, data1=p, data2=coarse, op=nl.subtract)
        one = _constant((p.shape[0], 1), 1.0, nl.bfloat16, nisa.engine.gpsimd)
    for c in range(len(pieces)):
        j0, keys, f, e, at = pieces[c]
        is_cached = how["cache"] != None and j0 < how["cache"]["padded"]
        for w in range(f // P, -(-e // P)):
            begin = at + w * P - f
            end = begin + min(P, queries - w * P)
            value, total = values[c], banks[w // banks[0].shape[1]][0 : end - begin, w % banks[0].shape[1], :]
            more = w in begun
            begun[w] = True
            if is_split:
                ones = value[:, D : D + 1]
                nisa.nc_matmul(dst=total[:, D : D + 1], stationary=fine[:, begin:end], moving=ones, accumulate=more)
                ones = how["cache"]["filled"][0:keys, b, j0 // P, :] if is_cached else one
                nisa.nc_matmul(
                    dst=total[:, D + 1 : D + 2], stationary=coarse[:, begin:end], moving=ones, accumulate=more
                )
                value = value[:, 0:D]
            total = total[:, 0 : value.shape[1]]
            nisa.nc_matmul(dst=total, stationary=p[:, begin:end], moving=value, accumulate=more)
    if adds and is_last:
        _add_rows(banks, by_row, D)


def _add_rows(banks, by_row, D):
    """Column D + 1 of the sums: those of by_row[128, queries] over its rows, in float32."""
    queries, each = by_row.shape[1], banks[0].shape[1]
    copied = nl.ndarray(by_row.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.activation(dst=copied, op=nl.copy, data=by_row)
    ones = _constant((P, 1), 1.0, nl.float32, nisa.engine.gpsimd)
    for w in range(-(-queries // P)):
        begin, end = w * P, min((w + 1) * P, queries)
        total = banks[w // each][0 : end - begin, w % each, D + 1 : D + 2]
        nisa.nc_matmul(dst=total, stationary=copied[:, begin:end], moving=ones, accumulate=False)


def _banks(queries, width):
    """PSUM tiles [128, tiles, width] for the sums of a block, its tiles of 128 queries spread evenly over the banks."""
    tiles = -(-queries // P)
    count = -(-tiles // (BANK // width))
    each = -(-tiles // count)
    banks = []
    for w in range(0, tiles, each):
        banks.append(nl.ndarray((P, min(each, tiles - w), width), dtype=nl.float32, buffer=nl.psum))
    return banks


def _finish(out, block, banks, how, means, checks, totals):
    """Divide a block's sums [v | 1] by l, store them, and note what each row has to prove."""
    b, _, h, i0, queries = block
    D, (_, each, width) = out.shape[3], banks[0].shape
    tiles = -(-queries // P)
    total = nl.ndarray((P, tiles, width), dtype=nl.float32, buffer=nl.sbuf)
    for c in range(len(banks)):  # first, because the next block waits for the banks, and not by Scalar, which it needs
        for m, begin, end in _rectangles(min(each * P, queries - c * each * P)):
            nisa.tensor_copy(dst=total[0:m, c * each + begin : c * each + end, :], src=banks[c][0:m, begin:end, :])

    result = nl.ndarray((P, tiles, D), dtype=out.dtype, buffer=nl.sbuf)
    for m, begin, end in _rectangles(queries):
        weight = total[0:m, begin:end, D : D + 1]
        weights = [weight]  # l of the weights that v was multiplied by, and if it differs, l
        if how["adds"]:
            weights.append(total[0:m, begin:end, D + 1 : D + 2])
        elif width > D + 1:
            nisa.tensor_tensor(dst=weight, data1=weight, data2=total[0:m, begin:end, D + 1 : D + 2], op=nl.add)
        if how["sinks"] != None:
            for one in weights:
                nisa.tensor_scalar(dst=one, data=one, op0=nl.add, operand0=how["weights of sinks"][0:m, h : h + 1])
        if totals != None:
            nisa.tensor_copy(dst=totals[0:m, begin:end], src=weights[len(weights) - 1][:, :, 0])
        inverse = nl.ndarray((m, end - begin, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.reciprocal(dst=inverse, data=weight)
        for w in range(begin, end):
            nisa.tensor_scalar_reduce(
                dst=result[0:m, w, :],
                data=total[0:m, w, 0:D],
                op0=nl.multiply,
                operand0=inverse[:, w - begin, :],
                reduce_op=nl.add,
                reduce_res=checks[0:m, w : w + 1],
            )
            # The keys that the tile's last query sees; of a cache, as if it were full.
            seen = min(how["keys"], i0 + w * P + m + how["shift"], how["window"])
            is_less = how["mask"] != None or how["segments"] != None or how["cache"] != None
            if is_less and out.dtype != nl.float16:
                seen = 1  # or more, and in eight bits of exponent l alone says enough
            nisa.tensor_scalar(
                dst=means[0:m, w : w + 1], data=total[0:m, w, D : D + 1], op0=nl.multiply, operand0=1.0 / seen
            )
        rows = out[b, h, i0 + begin * P : i0 + (end - 1) * P + m, :]
        nisa.dma_copy(dst=rows.reshape((end - begin, m, D)).permute((1, 0, 2)), src=result[0:m, begin:end, :])


def _store_logarithms(lse, blocks, totals):
    """lse = log(l) of all rows, head by head: a head's blocks follow each other, and so do its tiles."""
    logarithms = nl.ndarray(totals.shape, dtype=nl.float32, buffer=nl.sbuf)
    # What is outside of what Scalar computes is computed again.
    nisa.tensor_scalar(
        dst=logarithms, data=totals, op0=nl.maximum, operand0=1 / MOST_TOTAL, op1=nl.minimum, operand1=MOST_TOTAL
    )
    nisa.activation(dst=logarithms, op=nl.log, data=logarithms)
    n, tiles, Sq = 0, totals.shape[2], lse.shape[2]
    flat = logarithms.reshape((P, totals.shape[1] * tiles))
    while n < len(blocks):
        b, _, h, first, _ = blocks[n]
        for m, begin, end in _rectangles(Sq - first):
            rows = lse[b, h, first + begin * P : first + (end - 1) * P + m]
            at = n * tiles
            nisa.dma_copy(dst=rows.reshape((end - begin, m)).permute((1, 0)), src=flat[0:m, at + begin : at + end])
        n += -(-(Sq - first) // (tiles * P))


def _suspect(means, checks, most):
    """suspect[1, tiles], int32: 1 where a row has a mean weight out of range or an output that is not finite."""
    _, blocks, tiles = means.shape
    n = blocks * tiles
    means, checks = means.reshape((P, n)), checks.reshape((P, n))
    clipped = nl.ndarray((P, n), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=clipped, data=means, op0=nl.maximum, operand0=LEAST, op1=nl.minimum, operand1=most)
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


def _repair(out, lse, q, k, v, blocks, how, tiles, suspect):
    """Compute the suspect tiles again. The loops run once or never: a device's way to branch."""
    worst = nl.ndarray((1, 1), dtype=nl.int32, buffer=nl.sbuf)
    nisa.tensor_reduce(dst=worst, op=nl.maximum, data=suspect, axis=1)
    any_suspect = nisa.register_alloc()
    nisa.register_load(any_suspect, worst)

    def search(_):
        for n in range(len(blocks)):
            b, g, h, i0, queries = blocks[n]
            for w in range(-(-queries // P)):
                is_suspect = nisa.register_alloc()
                nisa.register_load(is_suspect, suspect[:, n * tiles + w : n * tiles + w + 1])
                m = min(P, queries - w * P)
                of_lse = None if lse == None else lse[b, h]

                def again(_, b=b, g=g, h=h, i=i0 + w * P, m=m, of_lse=of_lse):
                    _exactly(out[b, h], of_lse, q[b, h], k, v, (b, g, h), i, m, how)

                nl.fori_loop(0, is_suspect, again)

    nl.fori_loop(0, any_suspect, search)


def _exactly(out, lse, q, k, v, head, i0, n, how):
    """out[i0 : i0+n, :] for all inputs, in two passes over the keys that these queries see.

    The first finds m, the largest score of each row, with queries on the partitions. The second transposes the scores
    and subtracts m from them by one more matmul, of a single row. Then p <= 1 / Sk, so that no sum of weighted values
    overflows (float16 has no such values, and no room for such p). Values that are not finite go another way, because a
    weight of 0 times infinity is NaN: they are 0 in the product, and a product of zeros and ones counts those that a
    query sees.
    """
    (b, g, h), D = head, q.shape[1]
    queries = _load_transposed(q, i0, n)
    spans = _spans(max(0, i0 + how["shift"] - how["window"] + 1) // P * P, min(how["keys"], i0 + n + how["shift"]), how)
    first = spans[0][0]
    log_spread = 0.0 if q.dtype == nl.float16 else -math.log(how["keys"])
    spread = _constant((P, 1), log_spread)
    minus_top, minus_m = _minus_maximum(queries, k, head, i0, spans, how)
    ones = _constant((1, P), 1.0)
    unit = _unit(how)

    sums = nl.ndarray((n, D + 2), dtype=nl.float32, buffer=nl.psum)  # p^T [v | 1], and l of p before it was rounded
    counts = nl.ndarray((n, 2 * D), dtype=nl.float32, buffer=nl.psum)
    column = _constant((P, 1), 1.0)
    can_be_empty = how["mask"] != None and how["sinks"] == None
    if can_be_empty:
        seen_keys = nl.ndarray((n, 1), dtype=nl.float32, buffer=nl.psum)
        one = _constant((P, 1), 1.0, nl.bfloat16)
    for j0, n_keys in spans:
        keys = _load_transposed(*_source("k", k, b, g, j0, how), n_keys)
        values, odd = _sift(*_source("v", v, b, g, j0, how), n_keys)
        for w in range(-(-n_keys // P)):
            m, j = min(P, n_keys - w * P), j0 + w * P
            parts = []
            for d in range(len(keys)):
                parts.append(keys[d][:, w * P : w * P + m])
            p, sees = _weigh_exactly(parts, queries, head, j, i0, (minus_m, ones, spread), how)
            rounded = nl.ndarray((m, n), dtype=q.dtype, buffer=nl.sbuf)
            nisa.tensor_copy(dst=rounded, src=p)
            nisa.nc_matmul(dst=sums[:, 0 : D + 1], stationary=rounded, moving=values[0:m, w, :], accumulate=j > first)
            nisa.nc_matmul(dst=sums[:, D + 1 : D + 2], stationary=p, moving=column[0:m, :], accumulate=j > first)
            nisa.nc_matmul(dst=counts, stationary=sees, moving=odd[0:m, w, :], accumulate=j > first)
            if can_be_empty:
                nisa.nc_matmul(dst=seen_keys, stationary=sees, moving=one[0:m, :], accumulate=j > first)

    total = nl.ndarray((n, D + 2), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=total, src=sums)
    weights = total[:, D : D + 2]
    if how["sinks"] != None:  # exp(sink - m + log_spread)
        sink = nl.ndarray((n, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=sink, data=how["sinks"][0:n, h : h + 1], op0=nl.add, operand0=log_spread)
        nisa.activation(dst=sink, op=nl.exp, data=minus_top, scale=unit, bias=sink)
        nisa.tensor_scalar(dst=weights, data=weights, op0=nl.add, operand0=sink)
    if can_be_empty:
        is_empty = nl.ndarray((n, 1), dtype=nl.float32, buffer=nl.sbuf)  # 1 where the query sees no key, and l is 0
        nisa.tensor_scalar(dst=is_empty, data=seen_keys, op0=nl.equal, operand0=0.0)
        nisa.tensor_scalar(dst=weights, data=weights, op0=nl.add, operand0=is_empty)
    inverse = nl.ndarray((n, 2), dtype=nl.float32, buffer=nl.sbuf)
    nisa.reciprocal(dst=inverse, data=weights)
    if lse != None:  # log(l) - log_spread + m; NaN where l is 0 and a key is seen, -inf where none is
        logarithm = nl.ndarray((n, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.scalar_tensor_tensor(
            dst=logarithm, data=inverse[:, 1:2], op0=nl.multiply, operand0=0.0, op1=nl.add, operand1=weights[:, 1:2]
        )
        nisa.activation(dst=logarithm, op=nl.log, data=logarithm)
        nisa.tensor_scalar(dst=logarithm, data=logarithm, op0=nl.subtract, operand0=log_spread)
        nisa.scalar_tensor_tensor(
            dst=logarithm, data=minus_top, op0=nl.multiply, operand0=-unit, op1=nl.add, operand1=logarithm
        )
        if can_be_empty:
            nisa.tensor_scalar(
                dst=is_empty, data=is_empty, op0=nl.multiply, operand0=HIDDEN, op1=nl.multiply, operand1=2.0
            )
            nisa.tensor_tensor(dst=logarithm, data1=logarithm, data2=is_empty, op=nl.add)
        nisa.dma_copy(dst=lse[i0 : i0 + n].reshape((n, 1)), src=logarithm)
    result = nl.ndarray((n, D), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=result, data=total[:, 0:D], op0=nl.multiply, operand0=inverse[:, 0:1])
    for c, sign in ((0, 2.0), (D, -2.0)):  # a count of 0 adds 0, any other an infinity; NaN counts among both
        odd, infinite = counts[:, c : c + D], nl.ndarray((n, D), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=infinite, data=odd, op0=nl.multiply, operand0=LARGEST, op1=nl.multiply, operand1=sign)
        nisa.tensor_tensor(dst=result, data1=result, data2=infinite, op=nl.add)
    rounded = nl.ndarray((n, D), dtype=out.dtype, buffer=nl.sbuf)
    nisa.tensor_copy(dst=rounded, src=result)
    nisa.dma_copy(dst=out[i0 : i0 + n, :], src=rounded)


def _weigh_exactly(keys, queries, head, j, i, shift, how):
    """(p, sees) of the keys from j and queries from i: exp(s - m + log_spread) in float32, and 1; 0 where unseen.

    shift: -m as a row, ones as a row, log_spread as a column
    """
    (b, _, h), (minus_m, ones, spread), m, n = head, shift, keys[0].shape[1], queries[0].shape[1]
    scores = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.psum)
    for d in range(len(queries)):
        nisa.nc_matmul(dst=scores, stationary=keys[d], moving=queries[d], accumulate=d > 0)
    hidden, added = _masks(b, h, (j, m), (i, n), how, True)
    if how["softcap"] == None and added == None:
        nisa.nc_matmul(dst=scores, stationary=ones[:, 0:m], moving=minus_m, accumulate=True)
    else:
        z = _changed(scores, added, how)
        everywhere = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=everywhere, stationary=ones[:, 0:m], moving=minus_m, accumulate=False)
        scores = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=scores, data1=z, data2=everywhere, op=nl.add)
    p = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.sbuf)
    nisa.activation(dst=p, op=nl.exp, data=scores, bias=spread[0:m, :], scale=_unit(how))
    sees = _constant((m, n), 1.0, nl.bfloat16)
    for tile in (p, sees):
        _hide_unseen(tile, i, j, how, 0.0)
        for predicate in hidden:
            nisa.tensor_copy_predicated(dst=tile, src=0.0, predicate=predicate)
    return p, sees


def _spans(first, end, how):
    """The keys first .. end as (first, count) of up to BANK that lie in one tensor."""
    found, j = [], first
    while j < end:
        count = min(BANK, min(end, _end(j, how)) - j)
        found.append((j, count))
        j = -(-(j + count) // P) * P
    return found


def _masks(b, h, keys, queries, how, by_key):
    """(predicates of what mask, segments and a cache's length hide, what the mask adds) of a tile, uint16, keys on the
    partitions or not.

    keys, queries: (first, count)
    """
    (j, m), (i, n) = keys, queries
    shape = (m, n) if by_key else (n, m)
    hidden, added = [], None
    if how["mask"] != None:
        added = nl.ndarray(shape, dtype=how["mask"].dtype, buffer=nl.sbuf)
        rows = _mask_of(how["mask"], b, h)[i : i + n, j : j + m]
        if by_key:
            nisa.dma_transpose(dst=added, src=rows)
        else:
            nisa.dma_copy(dst=added, src=rows)
        hidden.append(_where(added, nl.less, HIDDEN))
    if how["segments"] != None:
        (r0, r), (c0, c) = (keys, queries) if by_key else (queries, keys)
        across = nl.ndarray((r, c), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=across, src=how["segments"][b, c0 : c0 + c].reshape((1, c)).broadcast(0, r))
        down = nl.ndarray((r, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=down, src=how["segments"][b, r0 : r0 + r].reshape((r, 1)))
        hidden.append(_where(across, nl.not_equal, down))
    if how["cache"] != None and j < how["cache"]["padded"]:
        places = nl.ndarray(shape, dtype=nl.float32, buffer=nl.sbuf)
        steps = ([[0, n]], 1) if by_key else ([[1, m]], 0)
        nisa.iota(dst=places, pattern=steps[0], offset=j, channel_multiplier=steps[1])
        hidden.append(_where(places, nl.greater_equal, how["cache"]["lengths"][0 : shape[0], b : b + 1]))
    return hidden, added


def _where(tile, compare, operand):
    """A predicate: where a comparison of a tile with a number or a column is true."""
    found = nl.ndarray(tile.shape, dtype=nl.uint16, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=found, data=tile, op0=compare, operand0=operand)
    return found


def _minus_maximum(queries, k, head, i0, spans, how):
    """-m as a column [n, 1] and as a row [1, n]: the largest of each query over the keys of `spans` that it sees."""
    (b, g, h), n = head, queries[0].shape[1]
    tops = nl.ndarray((n, len(spans)), dtype=nl.float32, buffer=nl.sbuf)
    for at in range(len(spans)):
        j0, n_keys = spans[at]
        keys = _load_transposed(*_source("k", k, b, g, j0, how), n_keys)
        scores = nl.ndarray((n, n_keys), dtype=nl.float32, buffer=nl.psum)
        for d in range(len(queries)):
            nisa.nc_matmul(dst=scores, stationary=queries[d], moving=keys[d], accumulate=d > 0)
        hidden, added = _masks(b, h, (j0, n_keys), (i0, n), how, False)
        scores = _changed(scores, added, how)
        last = i0 + how["shift"] - j0  # the last key that the first query sees
        is_late, is_old = n_keys - 1 > last, last + n - 1 >= how["window"]
        if len(hidden) > 0 or is_late or is_old:
            copied = nl.ndarray((n, n_keys), dtype=nl.float32, buffer=nl.sbuf)  # GpSimd cannot reach PSUM
            nisa.tensor_copy(dst=copied, src=scores)
            scores = copied
        if is_late:
            _hide(scores, 1, -1, last, HIDDEN)
        if is_old:
            _hide(scores, -1, 1, how["window"] - 1 - last, HIDDEN)
        for predicate in hidden:
            nisa.tensor_copy_predicated(dst=scores, src=HIDDEN, predicate=predicate)
        nisa.tensor_reduce(dst=tops[:, at : at + 1], op=nl.maximum, data=scores, axis=1)
    top = nl.ndarray((n, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_reduce(dst=top, op=nl.maximum, data=tops, axis=1)
    if how["sinks"] != None:
        sink = nl.ndarray((n, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=sink, data=how["sinks"][0:n, h : h + 1], op0=nl.multiply, operand0=1.0 / _unit(how))
        nisa.tensor_tensor(dst=top, data1=top, data2=sink, op=nl.maximum)
    nisa.tensor_scalar(dst=top, data=top, op0=nl.multiply, operand0=-1.0)
    row = nl.ndarray((1, n), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_transpose(dst=row, src=top)
    return top, row


def _sift(v, j0, n):
    """Of the rows j0 .. j0+n of v: [v | 1] with 0 for what is not finite, and [+inf or NaN | -inf or NaN] as ones.

    In tiles of 128 rows beside each other: [128, tiles, D + 1] and [128, tiles, 2 D].
    """
    D = v.shape[1]
    values = _load_values(v, j0, n, D + 1)
    nisa.memset(values[:, :, D : D + 1], 1.0, engine=nisa.engine.gpsimd)
    odd = nl.ndarray((P, values.shape[1], 2 * D), dtype=nl.bfloat16, buffer=nl.sbuf)
    for m, begin, end in _rectangles(n):
        tile = values[0:m, begin:end, 0:D]
        for c, inside, bound in ((0, nl.less_equal, LARGEST), (D, nl.greater_equal, -LARGEST)):
            dst = odd[0:m, begin:end, c : c + D]
            nisa.tensor_scalar(dst=dst, data=tile, op0=inside, operand0=bound, op1=nl.equal, operand1=0.0)
        # 0 times a finite number is 0, and times any other NaN, which equals nothing.
        is_odd = nl.ndarray((m, end - begin, D), dtype=nl.uint16, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=is_odd, data=tile, op0=nl.multiply, operand0=0.0, op1=nl.not_equal, operand1=0.0)
        nisa.tensor_copy_predicated(dst=tile, src=0.0, predicate=is_odd)
    return values, odd


def _chunk(k, v, b, g, n, j0, how, loaded):
    """The chunk with the keys from j0 on, loaded at its first use: k transposed, and [v | 1] in tiles of 128 rows."""
    Sk, D = how["keys"], k.shape[3]
    width = 2 if k.dtype != nl.float32 else 4  # bytes of an element
    is_resident = width * (-(-D // P) * Sk + -(-Sk // P) * (D + 1)) <= RESIDENT
    head = (b, g) if is_resident else (b, g, n)
    if loaded["head"] != head:
        loaded["head"], loaded["chunks"] = head, {}
    chunks = loaded["chunks"]
    if j0 not in chunks:
        size = min(max(FIRST, min(j0, CHUNK)), _end(j0, how) - j0)
        values = _load_values(*_source("v", v, b, g, j0, how), size, D + 1)
        nisa.memset(values[:, :, D : D + 1], 1.0, engine=nisa.engine.gpsimd)
        if how["cache"] != None and j0 < how["cache"]["padded"]:
            for m, begin, end in _rectangles(size):
                filled = how["cache"]["filled"][0:m, b, j0 // P + begin : j0 // P + end, :].broadcast(2, D + 1)
                tile = values[0:m, begin:end, :]
                nisa.tensor_tensor(dst=tile, data1=tile, data2=filled, op=nl.multiply)
        chunk = {"from": j0, "k": _load_transposed(*_source("k", k, b, g, j0, how), size), "v": values}
        if how["segments"] != None:
            chunk["code"] = _code(how["segments"][b], j0, size, nl.not_equal, 1.0)
        for j in range(j0, j0 + size, P):
            chunks[j] = chunk
    return chunks[j0]


def _load_transposed(source, s0, n):
    """The rows s0 .. s0+n of source[S, D] as SBUF tiles [up to 128 of D, n]."""
    tiles = []
    for d in range(0, source.shape[1], P):
        end = min(d + P, source.shape[1])
        tile = nl.ndarray((end - d, n), dtype=source.dtype, buffer=nl.sbuf)
        nisa.dma_transpose(dst=tile, src=source[s0 : s0 + n, d:end])
        tiles.append(tile)
    return tiles


def _load_values(v, j0, n, width):
    """The rows j0 .. j0+n of v[Sk, D] in tiles of 128: [128, tiles, width], the first D columns of each."""
    D = v.shape[1]
    values = nl.ndarray((P, -(-n // P), width), dtype=v.dtype, buffer=nl.sbuf)
    for m, begin, end in _rectangles(n):
        rows = v[j0 + begin * P : j0 + (end - 1) * P + m, :]
        nisa.dma_copy(dst=values[0:m, begin:end, 0:D], src=rows.reshape((end - begin, m, D)).permute((1, 0, 2)))
    return values


def _constant(shape, value, dtype=nl.float32, engine=nisa.engine.unknown):
    """A tile in SBUF, filled with a number."""
    tile = nl.ndarray(shape, dtype=dtype, buffer=nl.sbuf)
    nisa.memset(tile, value, engine=engine)
    return tile


def _rectangles(n):
    """Tiles of 128 of n rows as (rows, first tile, last tile + 1): the full ones, then one that is not."""
    found = []
    if n >= P:
        found.append((P, 0, n // P))
    if n % P:
        found.append((n % P, n // P, n // P + 1))
    return found


def _broadcast(vector):
    """vector[N] in all partitions, in float32: [128, N]."""
    tile = nl.ndarray((P, vector.shape[0]), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=vector.reshape((1, vector.shape[0])).broadcast(0, P))
    return tile


def _fill(out, n, value, columns=None, c=0):
    """out[0:n, :] = value, or a column of [128, columns], for the queries that see no key."""
    for i0 in range(0, n, P):
        rows = min(P, n - i0)
        if columns == None:
            tile = nl.ndarray((rows, out.shape[1]), dtype=out.dtype, buffer=nl.sbuf)
            nisa.memset(tile, value)
        else:
            tile = columns[0:rows, c : c + 1]
        nisa.dma_copy(dst=out[i0 : i0 + rows, :], src=tile)


def _check_prefill(q, k_new, v_new, k_cache, v_cache, lengths):
    B, H, Hkv, T, _, D = _check(q, k_new, v_new, True, None, None, None, None)
    assert k_new.shape[2] == q.shape[2], f"q and the new keys must have as many tokens, got {q.shape} and {k_new.shape}"
    S = k_cache.shape[2] if len(k_cache.shape) == 4 else 0
    for cache in (k_cache, v_cache):
        assert cache.shape == (B, Hkv, S, D) and cache.dtype == q.dtype and T <= S, (
            f"the caches must be [B, Hkv, S, D] with {(B, Hkv)}, room for {T} tokens, D = {D} and {q.dtype}, got "
            f"{cache.shape} and {cache.dtype}"
        )
    assert lengths.shape == (B,), f"lengths must be [B = {B}], got {lengths.shape}"
    return B, H, Hkv, T, S, D


def _check(q, k, v, causal, window, sinks, mask, segments):
    assert len(q.shape) == 4 and len(k.shape) == 4 and len(v.shape) == 4, (
        f"attention takes q[B, H, Sq, D], k and v[B, Hkv, Sk, D], got shapes {q.shape}, {k.shape} and {v.shape}"
    )
    B, H, Sq, D = q.shape
    _, Hkv, Sk, _ = k.shape
    assert k.shape == v.shape, f"k and v must have one shape, got {k.shape} and {v.shape}"
    assert k.shape[0] == B and k.shape[3] == D, f"q and k must share B and D, got {q.shape} and {k.shape}"
    assert H % Hkv == 0, f"query heads must be a multiple of key heads, got {H} and {Hkv}"
    assert D <= 2 * P, f"the head dimension is at most {2 * P}, got {D}"
    assert q.dtype == k.dtype and q.dtype == v.dtype, (
        f"q, k and v must have one dtype, got {q.dtype}, {k.dtype} and {v.dtype}"
    )
    assert q.dtype == nl.float32 or q.dtype == nl.bfloat16 or q.dtype == nl.float16, (
        f"attention takes float32, bfloat16 or float16, got {q.dtype}"
    )
    assert window == None or causal and window > 0, f"a window of one or more keys goes with causal, got {window}"
    assert sinks == None or sinks.shape == (H,), f"sinks must be [H] = {(H,)}, got {sinks.shape}"
    if mask != None:
        fits = len(mask.shape) == 4 and mask.shape[0] in (1, B) and mask.shape[1] in (1, H)
        assert fits and mask.shape[2:] == (Sq, Sk), (
            f"mask must be [B or 1, H or 1, Sq, Sk] of {(B, H, Sq, Sk)}, got {mask.shape}"
        )
    assert segments == None or Sq == Sk and segments.shape == (B, Sq), (
        f"segments[B, S] go with as many queries as keys, {(B, Sk)}, got {segments.shape} and {Sq} queries"
    )
    return B, H, Hkv, Sq, Sk, D
