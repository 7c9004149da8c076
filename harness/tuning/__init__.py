"""Which setting of its knobs makes a kernel fastest: the knobs that a file declares, its variants, and the search.

Reports, commands and upkeep may import it; it imports running, comparing, profiling and the rooms below.
"""
