"""From a call of a kernel to its outputs, trace and predicted time; and `nki`, for code that imports it.

The top floor of the simulator: it imports every other room, and none imports it.
"""
