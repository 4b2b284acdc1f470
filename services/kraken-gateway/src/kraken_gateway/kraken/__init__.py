"""Kraken's protocol: connections, limits, frames, REST."""
