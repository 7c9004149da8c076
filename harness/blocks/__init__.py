"""A block of a model out of the collection's kernels: what is called on what, whether it is right, and how long it takes.

Commands import it; it imports the collection's sizes, the reference and the simulator.
"""
