"""Asks the service in this container whether it does its work; the exit code is Docker's answer, 0 or 1."""

import http.client
import os
import sys

_DEFAULT_PORTS = {"admin-api": "8000"}


def _endpoint() -> tuple[int, str]:
    service = os.environ["SERVICE"]
    if service == "kraken-simulator":
        return int(os.environ.get("SIM_CONTROL_PORT") or 8701), "/health"
    return int(os.environ.get("HTTP_PORT") or _DEFAULT_PORTS.get(service, "9000")), "/health/ready"


def main() -> int:
    """Print the answer, which `docker inspect` shows, and tell whether it was 200."""
    port, path = _endpoint()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=4)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        sys.stdout.write(f"{answer.status} {answer.read(2000).decode(errors='replace')}\n")
    except OSError as error:
        sys.stdout.write(f"nothing answers on port {port}: {error}\n")
        return 1
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
