"""What instructions take: tiles, numbers, operators and accumulators, checked, read in float32 and written rounded.

It imports tensors and reaches the machine by `triptych.simulator.running` alone; the machine, the engines and the
language import it.
"""
