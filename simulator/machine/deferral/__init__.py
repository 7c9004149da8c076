"""What a machine puts off: bytes that only move, and sums of products, until somebody asks for them.

The launch asks for its `deferred.DeferredMachine`; it imports the machine beside it and the rooms below.
"""
