"""The state of the system as the bus reports it, shared by the packages that judge it."""
