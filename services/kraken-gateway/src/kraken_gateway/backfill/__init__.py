"""Seeds and history, published on request."""
