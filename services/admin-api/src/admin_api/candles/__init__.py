"""Candles over HTTP: pages, bulk reads and events, from the bus, the cache and the store."""
