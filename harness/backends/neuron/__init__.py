"""A Neuron instance from outside: what of it is installed, and the processes that compile, run and time a kernel there.

One process has AWS's nki, another nrtpy, because the two wheels share no environment; the backend `nki` talks to both.
"""
