"""What is known of the whole system: from the bus, and from the store."""
