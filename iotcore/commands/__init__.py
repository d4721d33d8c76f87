"""What the command line does: run everything, show it, look at it, do the office work, play."""
