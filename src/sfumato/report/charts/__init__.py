"""The charts of the report page and of the commands that measure."""
