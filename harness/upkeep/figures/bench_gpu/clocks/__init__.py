"""How long a call takes on the GPU: its samples, the clock behind them, and no time that cannot be.

It imports who is timed and how a row is written, and the session alone imports it.
"""
