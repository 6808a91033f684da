"""The command line: parse, call run, render events."""
