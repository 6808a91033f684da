"""What the verbs of the command line do: stages in order, events out; nothing is printed here."""
