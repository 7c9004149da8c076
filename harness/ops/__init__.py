"""What an operation is: the op, its cases, how inputs are drawn, how a file that declares ops is loaded.

Every room from `collection` upwards may import it; it imports results and the ground, and judges nothing.
"""
