"""What a failure looks like: its worst element, a histogram, a picture, and a diagnosis in words where one holds.

The verdict asks for it, and reports print what it found; it imports comparison and what lies below.
"""
