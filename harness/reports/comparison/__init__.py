"""A comparison for people: a table for a terminal, a comment for a pull request, annotations, a page.

What is compared, and what it means, stands in the room `comparing`.
"""
