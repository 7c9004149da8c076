"""The state space layer of AWS's Mamba tutorial, as its profiles show the measured programs to be.

    h_s[t] = exp(A_s delta[t]) h_s[t-1] + delta[t] u[t] B_s[t],    out[t] = sum over s of h_s[t] C_s[t]

per channel, with channels on partitions and time along the free dimension. Rows of B and C are spread over the
partitions by a product with ones, and the Vector Engine reads them where that leaves them, in PSUM.

Dimensions
    channels   a multiple of 128
    states     S
    length     a multiple of 512, what a bank of PSUM holds in float32
"""

import nki
import nki.isa as nisa
import nki.language as nl

TILE = 512


@nki.jit
def scan_states_outside(delta, u, A, B, C):
    """Every state passes over all channels: delta and u are loaded again for each, and multiplied again."""
    channels, length = delta.shape
    out = nl.ndarray((channels, length), dtype=delta.dtype, buffer=nl.shared_hbm)
    ones = _ones(delta.dtype)
    sums = [_zeros(length, delta.dtype) for _ in range(channels // 128)]
    for s in range(A.shape[1]):
        for tile in range(channels // 128):
            rows = slice(tile * 128, tile * 128 + 128)
            a = _load(A[rows, s : s + 1])
            d = _load(delta[rows, :])
            product = _times(d, _load(u[rows, :]))
            _state(sums[tile], d, product, a, B, C, s, 0, length, ones, 0.0)
    for tile in range(channels // 128):
        nisa.dma_copy(dst=out[tile * 128 : tile * 128 + 128, :], src=sums[tile])
    return out


@nki.jit
def scan_states_inside(delta, u, A, B, C):
    """Every tile of channels is loaded once and passes through all states, 512 steps of time after 512."""
    channels, length = delta.shape
    out = nl.ndarray((channels, length), dtype=delta.dtype, buffer=nl.shared_hbm)
    ones = _ones(delta.dtype)
    for tile in range(channels // 128):
        rows = slice(tile * 128, tile * 128 + 128)
        total = _zeros(length, delta.dtype)
        d, x = _load(delta[rows, :]), _load(u[rows, :])
        product = _times(d, x)
        for s in range(A.shape[1]):
            a = _load(A[rows, s : s + 1])
            last = 0.0
            for start in range(0, length, TILE):
                last = _state(total, d, product, a, B, C, s, start, TILE, ones, last)
        nisa.dma_copy(dst=out[rows, :], src=total)
    return out


def _state(total, d, product, a, B, C, s, start, length, ones, initial):
    """total += h C for one state over some time, h starting from `initial`; returns h at its end."""
    when = slice(start, start + length)
    shape = (128, length)
    decay = nl.ndarray(shape, dtype=d.dtype, buffer=nl.sbuf)
    nisa.activation(dst=decay, op=nl.exp, data=d[:, when], scale=a)
    inputs = nl.ndarray(shape, dtype=d.dtype, buffer=nl.sbuf)
    nisa.tensor_tensor(dst=inputs, data1=product[:, when], data2=_spread(B[s : s + 1, when], ones), op=nl.multiply)
    h = nl.ndarray(shape, dtype=d.dtype, buffer=nl.sbuf)
    nisa.tensor_tensor_scan(dst=h, data0=decay, data1=inputs, initial=initial, op0=nl.multiply, op1=nl.add)
    seen = nl.ndarray(shape, dtype=d.dtype, buffer=nl.sbuf)
    nisa.tensor_tensor(dst=seen, data1=h, data2=_spread(C[s : s + 1, when], ones), op=nl.multiply)
    nisa.tensor_tensor(dst=total[:, when], data1=total[:, when], data2=seen, op=nl.add)
    return h[:, length - 1 : length]


def _spread(row, ones):
    """A row of HBM on every partition, in PSUM."""
    spread = nl.ndarray((128, row.shape[1]), dtype=nl.float32, buffer=nl.psum)
    nisa.nc_matmul(dst=spread, stationary=ones, moving=_load(row))
    return spread


def _load(x):
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    return tile


def _times(a, b):
    product = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.sbuf)
    nisa.tensor_tensor(dst=product, data1=a, data2=b, op=nl.multiply)
    return product


def _zeros(length, dtype):
    tile = nl.ndarray((128, length), dtype=dtype, buffer=nl.sbuf)
    nisa.memset(dst=tile, value=0.0)
    return tile


def _ones(dtype):
    tile = nl.ndarray((1, 128), dtype=dtype, buffer=nl.sbuf)
    nisa.memset(dst=tile, value=1.0)
    return tile
