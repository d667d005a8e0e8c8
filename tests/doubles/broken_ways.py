"""Ways to a server that do not lead to one: names, connections, proxies and certificates that are wrong."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.doubles.stac_api.loopback import LoopbackServer, QuietHandler

FAR = "https://far.test"
#: Nothing listens there.
CLOSED = "127.0.0.1:9"
PASSWORD = "hunter2"  # pragma: allowlist secret


@dataclass(frozen=True)
class BrokenWay:
    """A URL that leads nowhere in an ``environment``."""

    url: str
    environment: Mapping[str, str] = field(default_factory=dict)


class _Handler(QuietHandler):
    app: ClassVar[Page]

    def do_GET(self) -> None:
        self.app.asked += 1
        self.answer(self.app.status, self.app.body, "text/html")

    do_HEAD = do_POST = do_CONNECT = do_GET  # noqa: N815 - the server's names


class Page(LoopbackServer):
    """Answers everything with one page."""

    handler = _Handler

    def __init__(self, status: int = 200, body: bytes = b"<html>sign in</html>") -> None:
        super().__init__()
        self.status, self.body, self.asked = status, body, 0

    def speak_tls(self, certificate: Path) -> None:
        """Speak TLS, and name itself by ``certificate``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)


def write_certificate(path: Path, *, host: str = "127.0.0.1", days: int = 2) -> Path:
    """Write a certificate that nobody else signed, and its key; negative ``days`` make it one that has expired."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's")])
    other = x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([other]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return path


@contextmanager
def listening(first_words: bytes | None, *, backlog: int = 50) -> Iterator[str]:
    """Yield the address of what takes connections, says ``first_words`` and hangs up; with None it is silent."""
    with socket.socket() as listener, ExitStack() as connections:
        listener.bind(("127.0.0.1", 0))
        listener.listen(backlog)
        if first_words is not None:
            threading.Thread(target=_hang_up, args=(listener, first_words), daemon=True).start()
        if not backlog:  # its queue is full with this one
            connections.enter_context(socket.create_connection(listener.getsockname()))
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def _hang_up(listener: socket.socket, first_words: bytes) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(first_words)


def _by_proxy(proxy: str) -> BrokenWay:
    return BrokenWay(FAR, {"https_proxy": f"http://me:{PASSWORD}@{proxy}"})


def _present(kind: str, folder: Path) -> tuple[Page, dict[str, str]]:
    """Return a server with a certificate that is wrong in one way alone, and the variables that name it as trusted."""
    page, certificate = Page(), folder / "own.pem"
    host = "elsewhere.test" if kind == "other host" else "127.0.0.1"
    page.speak_tls(write_certificate(certificate, host=host, days=-1 if kind == "expired" else 2))
    names = () if kind == "self-signed" else ("REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")
    return page, dict.fromkeys(names, str(certificate))


@contextmanager
def break_way(kind: str) -> Iterator[BrokenWay]:
    """Yield the way that ``kind`` names, one of ``KINDS``."""
    with ExitStack() as stack:
        enter, folder = stack.enter_context, Path(stack.enter_context(TemporaryDirectory()))
        if kind in {"self-signed", "expired", "other host"}:
            page, trusted = _present(kind, folder)
            yield BrokenWay(enter(page).url.replace("http:", "https:"), trusted)
            return
        open_way: Mapping[str, Callable[[], BrokenWay]] = {
            "name": lambda: BrokenWay("https://nothing.invalid"),
            "refused": lambda: BrokenWay(f"https://{CLOSED}"),
            "black hole": lambda: BrokenWay(f"https://{enter(listening(None, backlog=0))}"),
            "silent": lambda: BrokenWay(f"http://{enter(listening(None))}"),
            "silent tls": lambda: BrokenWay(f"https://{enter(listening(None))}"),
            "hangs up": lambda: BrokenWay(f"http://{enter(listening(b''))}"),
            "no http": lambda: BrokenWay(f"http://{enter(listening(b'220 ready' + bytes(2)))}"),
            "http as https": lambda: BrokenWay(enter(Page()).url.replace("http:", "https:")),
            "https as http": lambda: BrokenWay(enter(_present("self-signed", folder)[0]).url),
            "proxy gone": lambda: _by_proxy(CLOSED),
            "proxy's name": lambda: _by_proxy("nothing.invalid:3128"),
            "proxy silent": lambda: _by_proxy(enter(listening(None))),
            "proxy busy": lambda: _by_proxy(enter(Page(503)).url.removeprefix("http://")),
            "proxy refuses": lambda: _by_proxy(enter(Page(407)).url.removeprefix("http://")),
        }
        yield open_way[kind]()


#: What a line has to name of each: the stage, and what mends it.
KINDS: Mapping[str, tuple[str, ...]] = {
    "name": ("DNS: no address of nothing.invalid", "https_proxy"),
    "refused": (f"no connection to {CLOSED} (Connection refused)", "https_proxy"),
    "black hole": ("no connection to 127.0.0.1:", "timed out", "https_proxy"),
    "silent": ("timed out before it had answered",),
    "silent tls": ("timed out before it had answered",),
    "hangs up": ("no connection that stays open", "HTTPS?"),
    "no http": ("no connection that stays open", "HTTP"),
    "http as https": ("TLS: 127.0.0.1:", "http in place of https?"),
    "https as http": ("no connection that stays open", "HTTPS?"),
    "self-signed": ("TLS: its certificate was not accepted (self-signed certificate)", "_CA_BUNDLE"),
    "expired": ("TLS: its certificate was not accepted (certificate has expired)", "clock", "_CA_BUNDLE"),
    "other host": ("TLS: its certificate was not accepted (IP address mismatch", "another server's"),
    "proxy gone": (f"no connection to the proxy http://{CLOSED}", "mend https_proxy"),
    "proxy's name": ("no connection to the proxy", "DNS: no address of nothing.invalid", "mend https_proxy"),
    "proxy silent": ("timed out waiting for an answer through the proxy", "mend https_proxy"),
    "proxy busy": ("answers HTTP 503", "mend https_proxy"),
    "proxy refuses": ("answers HTTP 407", "mend https_proxy"),
}
