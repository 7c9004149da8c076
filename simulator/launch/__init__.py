"""From a call of a kernel to its trace, its outputs and its predicted time; and `nki` itself, for code that imports it.

The top floor of the simulator: it imports every other room, and none imports it.
"""
