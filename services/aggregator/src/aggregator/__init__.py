"""Owns the candles: infills, closes, rolls up, corrects, publishes."""

__version__ = "0.1.0"
