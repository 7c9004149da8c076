"""The same tasks on other machines: a Ray cluster's nodes, workers on them, what travels there, and who tries again.

Rooms from `reports` upwards may import it; it imports running and what lies below, and Ray in `connection` alone.
"""
