"""Who judges the tests: small faults planted in a room's own source, and how many of them its tests see.

`make own-mutants ROOM=judge` prints the score; it imports what `figures` has on mutants.
"""

import os

os.environ["TRIPTYCH_COMPILED"] = "0"  # what is compiled hides the Python that it stands for, and so a fault in it
