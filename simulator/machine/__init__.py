"""One core while it runs a kernel: memory, registers, trace, and how an instruction is declared and carried out.

It imports no engine: those enter themselves in `machine.table`. Engines, language and launch import it.
"""
