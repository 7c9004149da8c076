"""The few configurations that a Triton launcher offers for a GPU, and which of them was found to be the fastest there.

Rooms above backends may import it; it imports the emulators, and what lies below them.
"""
