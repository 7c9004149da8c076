"""What became faster or slower between two documents, how surely, and why.

Times are held against each other within one kind of evidence alone: it imports results and predictions, runs nothing
and prints nothing.
"""
