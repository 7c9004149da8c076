"""Pure functions of events and traces: costs, DMA descriptors, hazards, races, rules of regions, capacity, edges.

They read events and never data, so they cannot change a result. They import the ground and `memory` alone; the machine,
the engines and everything above may import them.
"""
