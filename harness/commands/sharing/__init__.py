"""Commands that write what others run without this project: a kernel as one file."""
