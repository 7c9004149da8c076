"""What commands that run kernels share: carrying a request out, watching files, other revisions.

Commands import it; it imports no command.
"""
