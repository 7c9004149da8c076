"""Kernels of our own that stand for measured ones; the points beside this folder say what they are called with."""
