"""TLS towards clients and upstreams, from PEM files that may be replaced at any time.

Every change of a file makes a whole new context, which is used from the next handshake on; a set of files
that can't be used leaves the last good one in force. Nothing is loaded *into* a live context: with a key that
does not fit, OpenSSL would leave it with half of each pair, and no authority can be taken out of one again.
"""

from __future__ import annotations

import calendar
import logging
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from forebay_core.spec.model import ProxyPool, Upstream
from forebay_proxy.files import FileError, reason

ALPN = {"http": ("http/1.1",), "forward": ("http/1.1",), "postgres": ("postgresql",)}  # RFC 7301
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"

Mode = Literal["verify-full", "verify-ca", "require"]

HANDSHAKE_TIMEOUT = 10.0  # seconds for a client's, before which it counts as no client yet; asyncio has 60

log = logging.getLogger(__name__)


class TLSFileError(FileError):
    """A certificate, key or authority can't be used."""


class _Files:
    """A context made from files, and made anew when they change."""

    def __init__(self, *paths: Path | None) -> None:
        self.error = ""  # why the newest files are not in use; empty: they are
        self._paths = [path for path in paths if path is not None]
        self._seen = self._state()
        self._use()

    def reload_if_changed(self) -> bool:
        """Use the files if they have changed; True if new ones are in use from now on. Bad ones are reported
        once, in one log line and in ``error``.
        """
        state = self._state()  # before reading: a change during it is found the next time
        if state == self._seen:
            return False
        self._seen = state
        try:
            self._use()
        except TLSFileError as error:
            self.error = str(error)
            log.error("%s; the last good files stay in use", error)
            return False
        self.error = ""
        return True

    def _use(self) -> None:
        """Read the files and put them into force, or change nothing and raise TLSFileError."""
        raise NotImplementedError

    def _state(self) -> list[tuple[int, int, int] | None]:
        # The inode, too: a rotation may keep size and (in a coarse clock) time.
        states: list[tuple[int, int, int] | None] = []
        for path in self._paths:
            try:
                stat = path.stat()
            except OSError:
                states.append(None)
            else:
                states.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return states


class ServerTLS(_Files):
    """TLS towards clients. ``context`` stays the same object, so a listener need not be opened anew.

    With ``client_ca_file`` a client must show a certificate from one of its authorities. Who resumes a session shows
    none: so then a change makes ``context`` another object, and listeners have to be opened anew.
    ``not_after``: when the server's certificate expires, in Unix time; ``certificate``: in DER, for channel binding.
    """

    def __init__(
        self,
        cert_file: Path,
        key_file: Path,
        client_ca_file: Path | None = None,
        alpn: Sequence[str] = (),
    ) -> None:
        """Raises TLSFileError."""
        self._cert_file, self._key_file, self._client_ca_file = cert_file, key_file, client_ca_file
        self._alpn = alpn
        self.not_after = 0.0
        self.certificate = b""
        super().__init__(cert_file, key_file, client_ca_file)
        self.context = self._current

    def reload_if_changed(self) -> bool:
        changed = super().reload_if_changed()
        if changed and self.verifies:
            self.context = self._current
        elif changed:
            # A context can't let go of what it has loaded: from now on each handshake is handed to the one that is in
            # force. OpenSSL calls this for clients without SNI too. Session tickets stay with the outer one.
            self.context.sni_callback = self._hand_over
        return changed

    @property
    def verifies(self) -> bool:
        """Whether clients have to show a certificate."""
        return self._client_ca_file is not None

    def _use(self) -> None:
        context = self._new()
        _load_pair(context, self._cert_file, self._key_file)
        if self._client_ca_file is not None:
            _load_authorities(context, self._client_ca_file)
        chain = _read(self._cert_file, "certificate")
        self.not_after = not_after(chain, self._cert_file)
        first = chain[chain.index(BEGIN) : chain.index(END) + len(END)]
        self.certificate = ssl.PEM_cert_to_DER_cert(first)
        self._current = context

    def _new(self) -> ssl.SSLContext:
        context = _context(ssl.PROTOCOL_TLS_SERVER, self._alpn)
        context.num_tickets = 1  # as Go's: each connection that resumes gets another
        context.options |= ssl.OP_NO_RENEGOTIATION  # a client's way to burn our CPU
        if self.verifies:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _hand_over(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current


class ClientTLS(_Files):
    """TLS towards an upstream. Read ``context`` for each new connection: it is replaced when files change.

    Modes: ``verify-full`` the chain and the name, ``verify-ca`` the chain, ``require`` nothing. Without
    ``ca_file`` the system's authorities count.
    """

    def __init__(
        self,
        mode: Mode,
        ca_file: Path | None = None,
        cert_file: Path | None = None,
        key_file: Path | None = None,
        alpn: Sequence[str] = (),
    ) -> None:
        """Raises TLSFileError."""
        self._mode, self._ca_file = mode, ca_file
        self._cert_file, self._key_file = cert_file, key_file
        self._alpn = alpn
        super().__init__(ca_file, cert_file, key_file)

    def _use(self) -> None:
        context = _context(ssl.PROTOCOL_TLS_CLIENT, self._alpn)
        context.check_hostname = self._mode == "verify-full"
        context.verify_mode = ssl.CERT_NONE if self._mode == "require" else ssl.CERT_REQUIRED
        if self._mode != "require":
            if self._ca_file is None:
                context.load_default_certs()
            else:
                _load_authorities(context, self._ca_file)
        if self._cert_file is not None and self._key_file is not None:
            _load_pair(context, self._cert_file, self._key_file)
        self.context = context


def server_tls(pool: ProxyPool) -> ServerTLS | None:
    """TLS towards clients, as the document has it. Raises TLSFileError."""
    tls = pool.spec.listen.tls
    if tls is None or tls.cert_file is None or tls.key_file is None:
        return None
    ca = Path(tls.client_ca_file) if tls.client_ca_file is not None else None
    return ServerTLS(Path(tls.cert_file), Path(tls.key_file), ca, alpn(pool.spec.protocol))


def client_tls(spec: Upstream, protocol: str) -> ClientTLS:
    """TLS towards an upstream, as the document has it. Raises TLSFileError."""
    tls = spec.tls
    assert tls is not None
    files = (tls.ca_file, tls.client_cert_file, tls.client_key_file)
    ca, cert, key = (Path(name) if name is not None else None for name in files)
    return ClientTLS(tls.mode, ca, cert, key, alpn(protocol))


def alpn(protocol: str) -> tuple[str, ...]:
    """What TLS offers: an opaque relay offers nothing, both ends may speak anything."""
    return ALPN.get(protocol, ())


def not_after(pem: str, path: Path) -> float:
    """When the first certificate of a PEM text expires, in Unix time. ``path`` is for the message of the
    TLSFileError that this raises.

    The ssl module tells this of a peer's certificate only, so it is read from the DER (RFC 5280 section 4.1).
    """
    try:
        end = pem.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
        der = ssl.PEM_cert_to_DER_cert(pem[pem.index(ssl.PEM_HEADER) : end])
        fields = _children(_children(der)[0][1])[0][1]  # Certificate -> tbsCertificate
        parts = _children(fields)
        if parts[0][0] == 0xA0:  # [0] version: absent in version 1
            parts = parts[1:]
        _, _, _, validity = parts[:4]  # serialNumber, signature, issuer, validity
        tag, raw = _children(validity[1])[1]
        text = raw.decode("ascii")
        if tag == 0x17:  # UTCTime: years 50 to 99 are 19xx
            text = ("19" if text[:2] >= "50" else "20") + text
        return float(calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ")))
    except (ValueError, IndexError) as error:
        raise TLSFileError(f"certificate {path} can't be read: {error}") from None


def _children(data: bytes) -> list[tuple[int, bytes]]:
    """The (tag, content) pairs that DER data consists of. Raises ValueError, IndexError."""
    found, at = [], 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:  # the long form: the next (size & 0x7f) bytes are the length
            count = size & 0x7F
            size, at = int.from_bytes(data[at : at + count], "big"), at + count
        if at + size > len(data):
            raise ValueError("its DER is cut short")
        found.append((tag, data[at : at + size]))
        at += size
    return found


def _context(protocol: ssl._SSLMethod, alpn: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text("ascii", errors="replace")
    except FileNotFoundError:
        raise TLSFileError(f"{what} {path}: there is no such file") from None
    except OSError as error:
        raise TLSFileError(f"{what} {path} can't be read: {reason(error)}") from None


def _load_pair(context: ssl.SSLContext, cert_file: Path, key_file: Path) -> None:
    if ssl.PEM_HEADER not in _read(cert_file, "certificate"):
        raise TLSFileError(f"certificate {cert_file}: expected PEM with {ssl.PEM_HEADER}")
    if "PRIVATE KEY-----" not in _read(key_file, "private key"):
        raise TLSFileError(f"private key {key_file}: expected PEM with -----BEGIN PRIVATE KEY-----")

    def refuse_password() -> str:  # without it OpenSSL would ask on the terminal
        raise TLSFileError(f"private key {key_file} is encrypted: expected one without a passphrase")

    try:
        context.load_cert_chain(cert_file, key_file, password=refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            message = f"private key {key_file} does not belong to certificate {cert_file}"
        else:
            message = f"certificate {cert_file} with private key {key_file} is refused: {_reason(error)}"
        raise TLSFileError(message) from None
    except OSError as error:  # changed since it was read
        raise TLSFileError(f"certificate {cert_file} with private key {key_file}: {reason(error)}") from None


def _load_authorities(context: ssl.SSLContext, ca_file: Path) -> None:
    if ssl.PEM_HEADER not in (text := _read(ca_file, "CA file")):
        raise TLSFileError(f"CA file {ca_file}: expected PEM with {ssl.PEM_HEADER}")
    try:
        context.load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise TLSFileError(f"CA file {ca_file} is refused: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    said = getattr(error, "reason", None)
    return said.lower().replace("_", " ") if said else str(error)
