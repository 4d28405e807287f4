"""The protocol `forward` of one worker: who may go where, by which way, and what is counted."""

import logging
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forebay_core.forward.access import Access
from forebay_core.forward.credentials import Credentials
from forebay_core.spec.model import Spec
from forebay_proxy.forward.client import ForwardClient
from forebay_proxy.forward.exchange import ForwardExchange
from forebay_proxy.forward.files import Files, read_files
from forebay_proxy.forward.logins import Logins
from forebay_proxy.forward.origins import Origins
from forebay_proxy.http.proxy import HttpProxy
from forebay_proxy.resolver import Resolver
from forebay_proxy.secret_files import SecretError
from forebay_proxy.tasks import Tasks
from forebay_proxy.upstream import Upstream
from forebay_proxy.wheel import Wheel

if TYPE_CHECKING:
    from forebay_proxy.http.exchange import Exchange

LOOKUPS = 256  # names that are looked up at once, each by a thread that mostly sleeps

log = logging.getLogger(__name__)


class ForwardProxy(HttpProxy):
    """See the module's docstring."""

    def __init__(self, wheel: Wheel, tasks: Tasks) -> None:
        super().__init__(wheel)
        self.origins = Origins(Resolver(lookups=LOOKUPS), tasks)
        self.parents: Mapping[tuple[str, int], bytes] = {}
        self.logins: Logins | None = None  # None: no password is asked for
        self._files: Files | None = None
        self.complaint = ""  # of the last refresh; empty: the files are in force as they are
        self._key = secrets.token_bytes(32)
        self.name = b"forebay-" + secrets.token_hex(4).encode()  # to parents

    def configure(self, spec: Spec, upstreams: dict[str, Upstream], max_clients: int) -> None:
        """Take a document; what is under way goes on. Raises SecretError where a file can't be used."""
        assert spec.forward is not None
        self._forward = spec.forward
        self._take(read_files(spec.forward))
        super().configure(spec, upstreams, max_clients)
        self.access = Access(spec.forward)
        for client in self.clients:
            assert isinstance(client, ForwardClient)
            client.denial = self.access.client(client.peer)
        self.upstream = upstreams[spec.upstreams[0].name]
        self.origins.configure(self.access, spec.forward.per_origin, self.upstream)

    def _for_lone(self) -> None:
        """Each request has an origin of its own."""

    def refresh(self) -> None:
        """Take up changed files; bad ones are left, and said once."""
        try:
            files = read_files(self._forward)
        except SecretError as error:
            if str(error) != self.complaint:
                log.warning("%s; what it said before stays in force", error)
            self.complaint = str(error)
            return
        self.complaint = ""
        self._take(files)

    def _take(self, files: Files) -> None:
        """Where the users are the same, verdicts are kept."""
        if files == self._files:
            return
        if self._files is None or files.users != self._files.users:
            if self.logins is not None:
                self.logins.close()
            self.logins = None if files.users is None else Logins(Credentials(files.users, self._key))
        self._files = files
        self.parents = files.parents

    def __call__(self, peer: str | None = None) -> ForwardClient:
        """The protocol factory of the listeners."""
        return ForwardClient(self, peer or "")

    def finished(self, exchange: "Exchange", upstream: Upstream | None, now: float) -> None:
        super().finished(exchange, upstream, now)
        assert isinstance(exchange, ForwardExchange)
        exchange.leave()

    def described(self, exchange: "Exchange") -> dict[str, Any]:
        assert isinstance(exchange, ForwardExchange)
        forward = exchange.forward
        return {
            "method": b"CONNECT" if forward.connect else forward.request.method,
            "target": forward.uri,
            "host": forward.target.name.encode(),
            "user": exchange.user,
            "verdict": exchange.verdict,
        }
