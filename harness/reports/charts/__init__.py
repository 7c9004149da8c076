"""Pictures as numbers: axes, marks and lines of a chart, which templates/charts/ draw as SVG in a page.

The report and the cost page may import it; it imports what numbers look like and nothing of what they are of.
"""
