"""What honest kernels are off by: the baselines of an op, their arithmetic, and what their errors have in common.

The tolerance is derived from it; it imports the problem, local units and what lies below.
"""
