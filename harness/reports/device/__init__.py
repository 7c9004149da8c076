"""What a person reads of the simulator beside a device: agreement, times, and constants that would fit better.

Commands may import it; it imports the calibration and the results.
"""
