"""Chaos: faults by a seeded script while it runs, and then every candle compared with the trades that were made."""
