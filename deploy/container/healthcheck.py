"""Docker's health check: requests the service's own health endpoint; the exit code is 0 (ready) or 1."""

import http.client
import os
import ssl
import sys

_DEFAULT_PORTS = {"admin-api": "8000"}


def _endpoint() -> tuple[int, str]:
    service = os.environ["SERVICE"]
    if service == "kraken-simulator":
        return int(os.environ.get("SIM_CONTROL_PORT") or 8701), "/health"
    return int(os.environ.get("HTTP_PORT") or _DEFAULT_PORTS.get(service, "9000")), "/health/ready"


def _connection(port: int) -> http.client.HTTPConnection:
    """A connection, over TLS if the service uses it; its certificate also serves as our client certificate."""
    cert = os.environ.get("HTTP_CERT_FILE")
    if not cert:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=4)
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 - to ourselves
    context.load_cert_chain(cert, os.environ.get("HTTP_KEY_FILE") or None)
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=4, context=context)


def main() -> int:
    """Print the response, which `docker inspect` shows, and return whether its status is 200."""
    port, path = _endpoint()
    connection = _connection(port)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        sys.stdout.write(f"{response.status} {response.read(2000).decode(errors='replace')}\n")
    except OSError as error:
        sys.stdout.write(f"nothing answers on port {port}: {error}\n")
        return 1
    return 0 if response.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
