"""Candles for readers: pages, bulk reads and events, from the bus, memory and the store."""
