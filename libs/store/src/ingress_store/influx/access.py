"""The credentials of an InfluxDB."""

from dataclasses import dataclass, field

from ingress_common.tls import TlsFiles


@dataclass(frozen=True, slots=True)
class InfluxAccess:
    """The organisation, by its name or ID, and a token that may read and write its buckets.

    `tls`: own authorities and a client certificate, for `influxdbs://`.
    """

    org: str
    token: str = field(repr=False)
    tls: TlsFiles = TlsFiles()  # noqa: RUF009 - immutable
