"""TLS: certificate files, client contexts, and the reasons of failed handshakes."""

import ssl
from dataclasses import dataclass
from pathlib import Path

NOT_TRUSTED = "the server's certificate is not trusted"
"""Start of the reason when the certificate authority is unknown."""

_ALERTS = {
    "CERTIFICATE_REQUIRED": "the server requires a client certificate",
    "UNKNOWN_CA": "the server does not trust our client certificate's authority",
    "BAD_CERTIFICATE": "the server does not accept our client certificate",
    "CERTIFICATE_EXPIRED": "our client certificate has expired",
    "HANDSHAKE_FAILURE": "the server refuses the handshake; it may require a client certificate or other ciphers",
    "WRONG_VERSION_NUMBER": "the server does not speak TLS on this port",
    "UNEXPECTED_EOF_WHILE_READING": "the server ended the handshake; it may not speak TLS on this port",
    "UNSUPPORTED_PROTOCOL": "the server supports only outdated versions of TLS",
}


_UNLIKE = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""OpenSSL's reasons for a key that does not belong to its certificate: another key, or one of another type."""


class TlsFileError(ValueError):
    """A certificate or key file cannot be used. The text names the file."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of a connection.

    `ca_file`: authorities to trust instead of the system's. `cert_file`: our own certificate. `key_file`: its key, if
    `cert_file` does not contain it.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def __bool__(self) -> bool:
        """Whether any file is given."""
        return bool(self.ca_file or self.cert_file or self.key_file)

    def client_context(self) -> ssl.SSLContext:
        """The SSL context for a client. Reads the files each time, so the next connection uses replaced files.

        TlsFileError if a file cannot be used.
        """
        context = self._context(ssl.Purpose.SERVER_AUTH)
        if self.cert_file is not None:
            _load(context, self.cert_file, self.key_file)
        elif self.key_file is not None:
            raise TlsFileError(f"expected a certificate with the key {self.key_file}, got none")
        return context

    def _context(self, purpose: ssl.Purpose) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(purpose, cafile=None if self.ca_file is None else str(self.ca_file))
        except FileNotFoundError:
            raise TlsFileError(f"there is no file {self.ca_file}") from None
        except ssl.SSLError:
            raise TlsFileError(f"there is no certificate in PEM form in {self.ca_file}") from None
        except OSError as error:
            raise TlsFileError(f"{self.ca_file} cannot be read: {error.strerror or error}") from None


def reason_of(error: OSError) -> str:
    """The reason of a failed connection: an explanation for a TLS error, the system's text for any other."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if "mismatch" in error.verify_message or "not valid for" in error.verify_message:
            return f"the server's certificate is for another host: {error.verify_message}"
        return f"{NOT_TRUSTED}: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        cause = error.reason or str(error)
        for alert, reason in _ALERTS.items():
            if alert in cause.upper().replace(" ", "_"):
                return reason
        return f"the TLS handshake failed: {cause.replace('_', ' ').lower()}"
    return error.strerror or str(error) or type(error).__name__


def _load(context: ssl.SSLContext, cert_file: Path, key_file: Path | None) -> None:
    try:
        context.load_cert_chain(cert_file, key_file, password=_no_password)
    except FileNotFoundError:
        absent = cert_file if not cert_file.exists() else key_file
        raise TlsFileError(f"there is no file {absent}") from None
    except ssl.SSLError as error:
        reason = "key and certificate do not match" if error.reason in _UNLIKE else "not in PEM form"
        raise TlsFileError(f"{cert_file} and its key cannot be used: {reason}") from None
    except OSError as error:
        raise TlsFileError(f"{cert_file} cannot be read: {error.strerror or error}") from None


def _no_password() -> str:
    """Raise TlsFileError instead of letting OpenSSL prompt on the terminal."""
    raise TlsFileError("the key is protected by a password; expected one without")
