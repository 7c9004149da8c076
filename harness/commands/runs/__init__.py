"""What commands that run kernels share: carrying a request out, sides of a comparison, watching files.

Commands import it; it imports no command.
"""
