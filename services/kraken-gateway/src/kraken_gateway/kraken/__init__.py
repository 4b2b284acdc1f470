"""The ways to Kraken: WebSocket, REST, and what they may be used for."""
