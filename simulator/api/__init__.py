"""Which names NKI has, had and moved: tables, what each name is here, and look-ups for the linter.

It reads the instructions and the language, and nothing that launches a kernel; `lint` and `launch` read it.
"""
