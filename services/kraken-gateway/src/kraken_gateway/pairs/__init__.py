"""Which pairs there are, which of them are wanted, and which feed carries them."""
