"""`triptych profile`: how long a kernel takes on the chip, predicted, and why.

subjects   what can be profiled
command    the command: predicts, writes the files, prints
numbers    a prediction as plain numbers
text       those numbers for a terminal
perfetto   the timeline for Perfetto's UI
page       the timeline and the numbers as an HTML page; style, drawing and controls are its parts
"""
