"""Run folders, and the life of a run: what the command line, the report and a page share."""
