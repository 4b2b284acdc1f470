"""Speaks Kraken: raw ticks, history and watermarks onto the bus."""
