"""Chaos: faults by a seeded script on the running stack, then a comparison of every candle with the true trades."""
