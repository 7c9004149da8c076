"""Figures that take minutes: what `make judge-figures` and `make bench-simulator` print."""
