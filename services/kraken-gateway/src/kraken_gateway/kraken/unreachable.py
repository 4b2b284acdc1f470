"""Why Kraken cannot be reached."""

import ssl

from ingress_common.proxies import route_to
from ingress_common.tls import NOT_TRUSTED, reason_of


def unreachable(url: str, error: BaseException) -> str:
    """Return why `url` cannot be reached, and the proxy on the way to it. Where its certificate is not trusted, this
    names the setting.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    reason = reason_of(cause) if cause is not None else str(error) or type(error).__name__
    hint = " (KRAKEN_CA_FILE)" if reason.startswith(NOT_TRUSTED) else ""
    return f"{route_to(url)} cannot be reached: {reason}{hint}"
