"""What work costs on each chip: prices an hour from the catalogue, times from results, and where a verdict turns.

Reports and commands may import it; it imports the records of results and accelerators.
"""
