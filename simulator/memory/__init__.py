"""Storage behind tensors: layouts, bytes, what of them has been written, and where tensors lie on chip.

It knows dtypes, chips and allocations, and neither tensors nor the machine; every other room may import it.
"""
