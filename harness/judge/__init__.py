"""Is an output right: the problem with its reference, the tolerance and whether it is sensitive, comparison, verdict.

Backends and every room above may import it; it imports ops, results and the ground, and knows no backend.
"""
