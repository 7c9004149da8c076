"""Where a case runs: from a request over a plan to tasks, and the worker process that performs them within its limits.

It judges nothing itself and shows nothing: reports, tests and commands look on or read what came.
"""
