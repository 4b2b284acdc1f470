"""The public REST API, with Kraken's envelope, limits and infilled rows."""
