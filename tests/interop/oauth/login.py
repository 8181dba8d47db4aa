"""What an application gives to the Python SDK for OAuth: a place for registration and tokens, and a user."""

import base64
import importlib
import json
from urllib.parse import parse_qsl, urlsplit

from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import OAuthClientMetadata

from sdk import VERSION

if VERSION.startswith("1."):
    http = importlib.import_module("httpx")

    def came_back(code, state, **_):
        return code, state

else:
    http = importlib.import_module("httpx2")

    from mcp.shared.auth import AuthorizationCodeResult

    def came_back(**parameters):
        # It also checks who sent the user back (`iss`).
        return AuthorizationCodeResult(**parameters)


# Nothing listens there: the browser stops when it is sent back.
REDIRECT_URI = "http://localhost:1/callback"
# A request waits while the server fetches a key that is new, for at most 10 s; the default of 5 s would give up earlier.
PATIENCE_SECONDS = 15
# More than login, consent and the way back take.
MAX_REDIRECTS = 10


class Login:
    """A public client that registers itself. It asks for no scope of its own; the server says which."""

    def __init__(self, url, account):
        self.account = account
        self.visits = []  # the authorization URLs that the user was sent to
        self.issued = []  # all tokens, oldest first
        self._client_info = None
        metadata = OAuthClientMetadata(
            client_name="interop",
            redirect_uris=[REDIRECT_URI],
            grant_types=["authorization_code", "refresh_token"],
            token_endpoint_auth_method="none",
        )
        self.provider = OAuthClientProvider(url, metadata, self, self._visit, self._approve)

    async def get_tokens(self):
        return self.issued[-1] if self.issued else None

    async def set_tokens(self, tokens):
        self.issued.append(tokens)

    async def get_client_info(self):
        return self._client_info

    def set_registration(self, other):
        self._client_info = other._client_info

    async def set_client_info(self, client_info):
        self._client_info = client_info

    async def _visit(self, url):
        self.visits.append(url)

    async def _approve(self):
        return came_back(**await authorize(self.visits[-1], self.account))

    @property
    def access_token(self):
        return self.issued[-1].access_token


async def authorize(url, account):
    """What a browser does: it follows redirects, with cookies, until one leads back with the code."""
    async with http.AsyncClient(cookies={"account": account}) as browser:
        for _ in range(MAX_REDIRECTS):
            response = await browser.get(url)
            if response.next_request is None:
                raise AssertionError(f"HTTP {response.status_code} from {urlsplit(url).path}: {response.text[:200]}")
            url = str(response.next_request.url)
            if url.startswith(REDIRECT_URI):
                return dict(parse_qsl(urlsplit(url).query))
    raise AssertionError(f"no way back to the client after {MAX_REDIRECTS} redirects")


async def logged_in(url, account, registered=None):
    """Someone logged in to the server at `url`, without any session there; with the registration of another `Login`,
    if one is given."""
    login = Login(url, account)
    if registered:
        login.set_registration(registered)
    async with http.AsyncClient(auth=login.provider, timeout=PATIENCE_SECONDS) as client:
        # Any request that needs a token will do.
        await client.post(url.replace("/sse", "/messages/"), json={})
    return login


def decoded(token):
    """The header and the claims of a token."""
    parts = token.split(".")[:2]
    return [json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts]
