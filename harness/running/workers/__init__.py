"""Several workers at once: how many this machine bears, processes that are forked warm, and who gets which task next.

The rest of running and the rooms above may import it; it imports what lies below running, and `running.process`.
"""
