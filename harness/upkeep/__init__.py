"""The project's own figures and generated pages, for whoever keeps it up.

It may import every room, and no room imports it; the wheel does not hold it.
"""
