"""HTTP for the SDK that keeps a record of what was asked, and on which connections."""

from typing import NamedTuple
from urllib.parse import urlsplit

from login import http

# Longer than any silence here: connections stay until they are dropped.
KEEP_ALIVE_SECONDS = 100


class Response(NamedTuple):
    method: str
    url: str
    status: int
    challenge: str | None
    on_new_connection: bool


class Traffic(http.AsyncBaseTransport):
    """The transport of one client."""

    def __init__(self):
        self.responses = []
        self._all = []
        self.use_new_connections()

    def use_new_connections(self):
        """What is sent from now on goes over new connections; streams that are open stay open."""
        self._transport = http.AsyncHTTPTransport(limits=http.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS))
        self._all.append(self._transport)

    def client(self, headers=None, timeout=None, auth=None):
        return http.AsyncClient(transport=self, headers=headers, timeout=timeout, auth=auth)

    def to(self, method, path):
        return [r for r in self.responses if r.method == method and urlsplit(r.url).path == path]

    async def handle_async_request(self, request):
        connected = []

        async def trace(event, _):
            if event == "connection.connect_tcp.complete":
                connected.append(event)

        request.extensions = {**request.extensions, "trace": trace}
        response = await self._transport.handle_async_request(request)
        challenge = response.headers.get("www-authenticate")
        self.responses.append(
            Response(request.method, str(request.url), response.status_code, challenge, bool(connected))
        )
        return response

    async def aclose(self):
        for transport in self._all:
            await transport.aclose()
