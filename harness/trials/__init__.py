"""Further runs of a kernel: whether it repeats its bits and keeps nothing, whom to blame if it is wrong, who cheats.

`running` and the rooms above may import it; it imports backends and the judge.
"""
