"""Docker's health check: requests the service's own health endpoint; the exit code is 0 (ready) or 1.

The endpoint is on 127.0.0.1 and plain, whatever TLS the service requires of others: a check needs no certificate.
"""

import http.client
import os
import sys


def _endpoint() -> tuple[int, str]:
    if os.environ["SERVICE"] == "kraken-simulator":
        return int(os.environ.get("SIM_CONTROL_PORT") or 8701), "/health"
    return int(os.environ["HEALTH_PORT"]), "/health/ready"


def main() -> int:
    """Print the response, which `docker inspect` shows, and return whether its status is 200."""
    port, path = _endpoint()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=4)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        sys.stdout.write(f"{response.status} {response.read(2000).decode(errors='replace')}\n")
    except OSError as error:
        sys.stdout.write(f"no health from port {port}: {error}\n")
        return 1
    return 0 if response.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
