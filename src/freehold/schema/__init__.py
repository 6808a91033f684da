"""What a client may write: the stack file."""
