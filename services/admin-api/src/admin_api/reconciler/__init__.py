"""Keeps the store complete and correct: audit, repair of gaps, self-check, and a check that candles are stored."""
