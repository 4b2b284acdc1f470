"""What we send to Kraken, and what it answers: connections, limits, frames, REST."""
