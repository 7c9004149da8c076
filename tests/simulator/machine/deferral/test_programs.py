"""Random programs leave the same whether they are put off or not: of moves, sums, gathers, and of what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from deferral_parts import numbers, same
from kernel_parts import in_hbm

from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

SEEDS = range(30)


class Program:
    """A kernel that draws what it does next: it moves, multiplies, computes and overwrites parts of a few tensors."""

    def __init__(self, seed, dtype, steps=80):
        self.seed, self.dtype, self.steps = seed, dtype, steps

    def __call__(self, x, y):
        self.rng = np.random.default_rng(self.seed)
        self.hbm = [x, y, nl.ndarray((256, 256), self.dtype, nl.shared_hbm)]
        self.sbuf = [nl.ndarray((128, 3, 128), self.dtype) for _ in range(3)] + [nl.ndarray((128, 384), nl.float32)]
        self.psum = [nl.ndarray((128, 4, 128), nl.float32, nl.psum) for _ in range(2)]
        self.turned = nl.ndarray((128, 4, 128), self.dtype, nl.psum)
        for t in (*self.sbuf, *self.psum, self.turned):
            nisa.memset(t, 0.5)
        for row in (0, 128):
            for t in (x, self.hbm[2]):
                nisa.dma_copy(dst=t[row : row + 128], src=y[row : row + 128])
        actions = [self.load, self.load, self.store, self.copy, self.copy, self.multiply, self.multiply, self.compute]
        actions += [self.transpose, self.transpose, self.fill, self.fresh, self.back, self.wrong]
        actions += [self.gather, self.gather, self.scatter]
        for _ in range(self.steps):
            actions[self.rng.integers(len(actions))]()
        tiles = [t.reshape((128, 384)) for t in self.sbuf]
        for t in self.psum:
            tiles.append(nl.ndarray((128, 512), nl.float32))
            nisa.tensor_copy(tiles[-1], t.reshape((128, 512)))
        return (self.hbm[2], *[in_hbm(t) for t in tiles])

    def one_of(self, choices):
        return choices[self.rng.integers(len(choices))]

    def part(self, t, rows, columns, steps=True):
        """A view of so many rows and columns of a tensor."""
        flat = t if len(t.shape) == 2 else t.reshape((t.shape[0], -1))
        step = 2 if steps and self.rng.integers(4) == 0 and 2 * columns <= flat.shape[1] else 1
        row = 0 if t.on_chip else int(self.one_of((0, 5, 128)))
        column = int(self.rng.integers((flat.shape[1] - (columns - 1) * step - 1) // 32 + 1)) * 32
        return flat[row : row + rows, column : column + (columns - 1) * step + 1 : step]

    def size(self):
        return int(self.one_of((32, 64, 128))), int(self.one_of((2, 32, 64, 96)))

    def pair(self):
        """A view of a tile in SBUF and one of another tile."""
        size, to = self.size(), self.one_of(self.sbuf)
        return self.part(to, *size), self.part(self.one_of([t for t in self.psum + self.sbuf if t is not to]), *size)

    def load(self):
        size = self.size()
        nisa.dma_copy(dst=self.part(self.one_of(self.sbuf[:3]), *size), src=self.part(self.one_of(self.hbm), *size))

    def store(self):
        size = self.size()
        to = self.hbm[self.one_of((0, 2, 2, 2))]
        nisa.dma_copy(dst=self.part(to, *size), src=self.part(self.one_of(self.sbuf), *size))

    def rows(self, t, count, columns, steps=(-1, 0, 1)):
        """Rows of a tensor in HBM, or of some of its columns, by an index each."""
        index, first = nl.ndarray((count, 1), nl.int32), 32 * int(self.rng.integers(3)) if self.rng.integers(2) else 0
        nisa.iota(index, [[1, 1]], int(self.rng.integers(127, 129)), int(self.one_of(steps)))
        return t[:, first : first + columns].vector_select(0, index)

    def gather(self):
        rows, columns = self.size()
        dst = self.part(self.one_of(self.sbuf[:3]), rows, columns)
        nisa.dma_copy(dst=dst, src=self.rows(self.one_of(self.hbm), rows, columns))
        if self.rng.integers(2):
            nisa.dma_copy(dst=self.part(self.hbm[self.one_of((0, 2))], rows, columns), src=dst)

    def scatter(self):
        rows, columns = self.size()
        to = self.rows(self.hbm[self.one_of((0, 2, 2))], rows, columns, (-1, 1))
        nisa.dma_copy(dst=to, src=self.part(self.one_of(self.sbuf[:3]), rows, columns))

    def copy(self):
        dst, src = self.pair()
        if self.rng.integers(2):
            nisa.tensor_copy(dst, src)
        else:
            nisa.activation(dst, nl.copy, src)

    def multiply(self):
        """A sum of one to three products into a bank."""
        k, m, n = (int(self.one_of(sizes)) for sizes in ((32, 64, 128), (2, 32, 128), (1, 32, 64, 128)))
        bank = self.one_of(self.psum)[0:m, int(self.rng.integers(4)), 0:n]
        for i in range(int(self.one_of((1, 2, 3)))):
            tiles = [self.operand(k, columns) for columns in (m, n)]
            nisa.nc_matmul(bank, *tiles, accumulate=None if i and self.rng.integers(2) else i > 0)
            if self.rng.integers(4) == 0:
                self.compute()

    def operand(self, rows, columns):
        """A part of a tile, or one that comes from HBM."""
        if self.rng.integers(3) == 0:
            return self.part(self.one_of(self.sbuf[:3]), rows, columns, steps=False)
        tile = nl.ndarray((rows, columns), self.dtype)
        nisa.dma_copy(dst=tile, src=self.part(self.one_of(self.hbm), rows, columns))
        return tile

    def compute(self):
        dst, src = self.pair()
        nisa.tensor_scalar(dst, dst if self.rng.integers(3) == 0 else src, nl.multiply, 0.5, op1=nl.add, operand1=0.25)

    def transpose(self):
        rows, columns = int(self.one_of((32, 64, 128))), int(self.one_of((32, 64, 128)))
        to = self.turned[0:columns, int(self.rng.integers(4)), 0:rows]
        nisa.nc_transpose(to, self.part(self.one_of(self.sbuf[:3]), rows, columns, steps=False))
        if self.rng.integers(2):
            nisa.tensor_copy(self.part(self.one_of(self.sbuf[:3]), columns, rows), to)

    def fill(self):
        nisa.memset(self.part(self.one_of(self.sbuf + self.psum), *self.size()), 1.0)

    def fresh(self):
        """A new tensor in the place of one, with what that held."""
        at = int(self.rng.integers(3))
        new = nl.ndarray((128, 3, 128), self.dtype)
        nisa.tensor_copy(new, self.sbuf[at])
        self.sbuf[at] = new

    def back(self):
        """Onto the sum that a matmul began, after somebody has looked at it."""
        bank = self.psum[0][0:64, 0, 0:64]
        nisa.nc_matmul(bank, self.operand(128, 64), self.operand(128, 64), accumulate=False)
        nisa.tensor_copy(self.sbuf[3][0:64, 0:64], bank)
        nisa.nc_matmul(bank, self.operand(128, 64), self.operand(128, 64), accumulate=True)

    def wrong(self):
        """Now and then, what is refused."""
        if self.rng.integers(12) == 0:
            nisa.memset(self.psum[1][0:32, 0, 0:32], 3.0)
            nisa.nc_matmul(self.psum[1][0:32, 0, 0:32], *[self.sbuf[0][:, 0, 0:32]] * 2, accumulate=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_random_programs(dtype):
    refused = 0
    for seed in SEEDS:
        arrays = numbers(seed, (256, 256), dtype), numbers(seed + 1000, (256, 256), dtype)
        found = same(Program(seed, dtype), *arrays)
        refused += isinstance(found, str)
    assert 0 < refused < len(SEEDS) / 2


# What asks for what was put off
