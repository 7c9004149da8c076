"""The report: one HTML page for someone who never saw the project; a chapter is a template and, if it counts, a module.

Commands may import `page`; the chapters import what a report is made of, `data`, and nothing of each other.
"""
