"""Why a kernel takes as long: what can be profiled, a prediction as plain numbers, its timeline in lanes, for Perfetto.

Reports and commands may import it; it imports backends, ops and results, and nothing that prints or parses a command.
"""
