"""Run folders, and every operation on a run; the command line is one way to call them."""
