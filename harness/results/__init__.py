"""What came of one case on one backend, as typed records, and the JSON document that holds them.

Every room above may import it; it imports the ground alone, so that a saved document is read without any kernel.
"""
