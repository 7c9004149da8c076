"""The commands that concern Triton's kernels alone: what they cost on GPUs that are not here.

The table of commands finds them; they import no other command but what commands share in runs/.
"""
