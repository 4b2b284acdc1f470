"""Keeps the store complete and correct: gaps and their repair, the self-check, and a check that candles are stored."""
