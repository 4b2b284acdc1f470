"""Candles for those who read: the newest in memory, in bulk, and as events."""
