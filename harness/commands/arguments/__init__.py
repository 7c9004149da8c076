"""The words of a command line: the table of commands, their options, and where their output goes.

Nothing here imports NumPy before a command runs, so that help and usage errors come at once; commands alone import it.
"""
