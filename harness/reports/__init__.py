"""What a person reads: one text table, one Markdown table, and two HTML pages from templates, CSS and JavaScript.

Commands, the pytest plugin and upkeep may import it; it imports running, profiling and the rooms below, and no command.
"""
