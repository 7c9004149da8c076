"""The command line: one file a command, found by the name that stands in `arguments.parser`.

A command reads its arguments, asks the rooms below, prints, and returns an exit code; nobody imports a command.
"""
