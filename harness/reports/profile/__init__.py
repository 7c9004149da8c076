"""What a profile says, as text and as a page with its timeline.

Commands may import it; it imports the profiling room, which computed what is said here.
"""
