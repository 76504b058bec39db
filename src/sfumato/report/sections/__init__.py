"""The sections of the report page, each a function from a run to HTML."""
