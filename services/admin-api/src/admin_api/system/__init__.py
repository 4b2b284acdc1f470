"""What the bus reports about the system: shared by the packages that judge it, and knowing none of them."""
