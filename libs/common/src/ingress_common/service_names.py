"""The names of the services, as in topics, statuses and logs."""

GATEWAY = "kraken-gateway"
AGGREGATOR = "aggregator"
WRITER = "influx-writer"
ADMIN_API = "admin-api"

SERVICES = (GATEWAY, AGGREGATOR, WRITER, ADMIN_API)
"""All services, in the order in which data passes them."""
