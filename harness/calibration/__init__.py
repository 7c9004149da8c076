"""How right the simulator is on a chip: probes of each engine, what a device said of them, and the constants that fit.

`commands` and `reports` may import it; it imports profiling, the ops and results below. `probes` declares the probes as
ops, so that they run, are judged and are timed as any other op is.
"""
