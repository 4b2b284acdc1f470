"""What keeps the store complete and true: audit, repair, self-check."""
