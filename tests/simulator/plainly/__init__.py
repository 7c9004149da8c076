"""The chip once more, as plainly as its rules can be written, and programs drawn at random to compare them on."""
