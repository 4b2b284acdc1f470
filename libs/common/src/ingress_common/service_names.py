"""The names of the services, as in topics, statuses and logs."""

GATEWAY = "kraken-gateway"
AGGREGATOR = "aggregator"
WRITER = "influx-writer"
ADMIN = "admin-api"

SERVICES = (GATEWAY, AGGREGATOR, WRITER, ADMIN)
"""All of them, in the order in which a tick passes them."""
