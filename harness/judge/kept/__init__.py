"""What the judge has computed before, kept in files: references and tolerances, found by what determines them.

`running` and the rooms above may import it; it imports the judge's other files and the rooms below the judge.
"""
