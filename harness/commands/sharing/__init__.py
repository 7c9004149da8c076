"""Commands that write what others run without this project: a kernel as one file, or as a folder for the Hub."""
