"""`--tune`: the fastest of the configurations that a Triton launcher offers, found in the process that runs its case.

The rest of running may import it; it imports the backends, what is compiled and what is compared, and `running.faults`.
"""
