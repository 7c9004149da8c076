"""What a user's own Python calls: `check` and `bench`, tests for pytest, and the judge alone as an assertion.

`triptych` hands these names on; nothing of the command line may be needed to use them.
"""
