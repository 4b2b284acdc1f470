"""Load: the services under all of Kraken."""
