"""What a schedule says to a reader: its critical path and stalls, advice, use of memory, speed, a picture and a table.

`simulator.timing.prediction` and reports ask here; it reads timelines and schedules nothing.
"""
