"""A block of a model out of the collection's kernels: what is called on what, is it right, and how long does it take.

Commands import it; it imports the collection's sizes, the reference and the simulator.
"""
