"""The commands that concern NKI alone: a kernel's predicted time, its lint, and the model against measurements.

The table of commands finds them; they import no other command but what commands share in runs/.
"""
