"""Who judges the tests: small faults planted in a room's own source, and how many of them its tests see.

`make own-mutants ROOM=judge` prints the score; it imports what `figures` has on mutants.
"""
