"""`make bench-gpu`: all ops on this machine's GPU in one session of minutes, Triton's kernels against PyTorch's.

Each output is judged before its call is timed, and every row says how. `points` is what is measured, in which order;
`drawn`, `calls` and `rivals` are what is called on what; `parts` and `judged` are the verdict, `clocks` the time;
`session` does it, `record` is the document, and `shares` what is read off it. `filled` compiles ahead.
"""
