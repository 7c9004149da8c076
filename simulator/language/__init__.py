"""`nki.language`: names that are no instruction, functions made of instructions, and loops.

Functions compute by instructions alone, so that the trace shows what they cost. The room imports the engines, and only
the API's namespaces and launch import it.
"""
