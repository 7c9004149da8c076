"""Accelerators as data: peaks, prices and published rates of chips, each number with its source, in one editable file.

Reports, costs and every room above the ground may import it; it imports the ground alone.
"""
