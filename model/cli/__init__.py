"""One module with a main for each command."""
