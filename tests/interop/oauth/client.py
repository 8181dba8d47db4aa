"""The OAuth support of the official Python SDK (`mcp`, 1.x or 2.x) against a server that wants tokens.

With `--expiry` tokens should live a few seconds, and what happens when they end is checked; with `--rotate` the
authorization server at `--as` is told to change its keys and to fail.
"""

import argparse
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import anyio
from mcp.client.sse import sse_client

sys.path.append(str(Path(__file__).parents[1] / "python"))

from checks import HeldOpen, expect, run  # noqa: E402
from login import PATIENCE_SECONDS, Login, decoded, http, logged_in  # noqa: E402
from sdk import VERSION, connect  # noqa: E402
from traffic import Traffic  # noqa: E402

TOOLS = {"add", "echo", "long_task", "request_headers"}

# How long a new key of the authorization server may be unknown to the server.
NEW_KEY_SECONDS = 15


class Connection(HeldOpen):
    """A client for one user, with a record of its traffic."""

    def __init__(self, url, login):
        self.traffic = Traffic()
        self.login = login
        transport = sse_client(url, auth=login.provider, httpx_client_factory=self.traffic.client)
        super().__init__(connect(transport))

    async def open(self, tasks):
        self.client, _ = await super().open(tasks)

    async def echo(self, message):
        result = await self.client.call_tool("echo", {"message": message})
        expect("echo", result.content[0].text, message)

    @property
    def endpoint(self):
        """Where its session is."""
        return self.traffic.to("POST", "/messages/")[-1].url


async def post(endpoint, token=None):
    """A message from someone who knows the address of a session."""
    async with http.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        body = {"jsonrpc": "2.0", "method": "notifications/interop"}
        return await client.post(endpoint, json=body, headers=headers)


def expect_in(what, part, text):
    if part not in (text or ""):
        raise AssertionError(f"{what}: no {part!r} in {text!r:.200}")


class Run:
    """The checks, over one connection of alice."""

    def __init__(self, url, tasks):
        self.url = url
        self.tasks = tasks
        self.first = Connection(url, Login(url, "alice"))

    async def authorized(self):
        """The whole way from a first 401 to a session; the SDK goes it in one call."""
        login, traffic = self.first.login, self.first.traffic
        await self.first.open(self.tasks)
        await self.first.echo("with a token")
        refused, described, *others = traffic.responses
        metadata = urljoin(self.url, "/.well-known/oauth-protected-resource/sse")
        expect("first status", refused.status, 401)
        expect_in("challenge", "Bearer ", refused.challenge)
        expect_in("challenge", f'resource_metadata="{metadata}"', refused.challenge)
        # Where the challenge and the metadata point is there; nothing had to be guessed.
        expect("first address", described.url, metadata)
        expect("failures", [other for other in others if other.status >= 400], [])
        expect("visits", len(login.visits), 1)
        query = parse_qs(urlsplit(login.visits[0]).query)
        expect("resource", query["resource"], [self.url])
        expect("code_challenge_method", query["code_challenge_method"], ["S256"])
        _, claims = decoded(login.access_token)
        expect("audience and subject", (claims["aud"], claims["sub"]), (self.url, "alice"))
        expect("refresh token", bool(login.issued[-1].refresh_token), True)

    async def list_tools(self):
        names = {tool.name for tool in (await self.first.client.list_tools()).tools}
        expect("missing tools", TOOLS - names, set())

    async def calls_at_once(self):
        async with anyio.create_task_group() as tasks:
            for i in range(20):
                tasks.start_soon(self.first.echo, f"call {i}")

    async def connect_as(self, login):
        another = Connection(self.url, login)
        visits = len(login.visits)
        await another.open(self.tasks)
        await another.echo(f"of {login.account}")
        await another.close()
        expect("visits", len(login.visits), visits)

    async def bad_tokens(self):
        without = await post(self.first.endpoint)
        expect("status without a token", without.status_code, 401)
        expect("error without a token", "error=" in without.headers["www-authenticate"], False)
        # The signature of another token.
        content, _ = self.first.login.access_token.rsplit(".", 1)
        _, signature = (await self.user("alice")).access_token.rsplit(".", 1)
        forged = await post(self.first.endpoint, f"{content}.{signature}")
        expect("status", forged.status_code, 401)
        expect_in("challenge", 'error="invalid_token"', forged.headers["www-authenticate"])

    async def user(self, account):
        return await logged_in(self.url, account, self.first.login)

    async def session_is_for_one_user(self):
        alice, bob, other = await self.user("alice"), await self.user("bob"), await logged_in(self.url, "alice")
        expect("subject", decoded(bob.access_token)[1]["sub"], "bob")
        expect("status for bob", (await post(self.first.endpoint, bob.access_token)).status_code, 404)
        # Another client of the same user is somebody else.
        expect("status for another client", (await post(self.first.endpoint, other.access_token)).status_code, 404)
        # The same user and client, whatever token it is.
        expect("status for alice", (await post(self.first.endpoint, alice.access_token)).status_code, 202)
        await self.connect_as(bob)
        await self.first.echo("of alice")

    async def expired(self, on_new_connection):
        """The SDK knows when a token ends, and refreshes it before it sends the next message."""
        login, traffic, endpoint = self.first.login, self.first.traffic, self.first.endpoint
        tokens = len(login.issued)
        # `exp` has whole seconds, and the server may round them up.
        seconds = decoded(login.access_token)[1]["exp"] - time.time() + 1
        if seconds > 20:
            raise AssertionError("the tokens live too long for this")
        await anyio.sleep(seconds)
        traffic.responses.clear()
        if on_new_connection:
            traffic.use_new_connections()
        await self.first.echo("after the token's end")
        (accepted,) = traffic.to("POST", "/messages/")
        expect("status", accepted.status, 202)
        expect("endpoint", accepted.url, endpoint)
        expect("on a new connection", accepted.on_new_connection, on_new_connection)
        # The stream was left alone, and so was the user.
        expect("streams", traffic.to("GET", "/sse"), [])
        expect("tokens", len(login.issued), tokens + 1)
        expect("visits", len(login.visits), 1)

    async def new_key(self, server):
        kid = await control(server, "/test/rotate")
        login = await self.user("alice")
        expect("kid", decoded(login.access_token)[0]["kid"], kid)
        # The server may ask for keys only so often; the SDK would send the user to the browser again.
        with anyio.move_on_after(NEW_KEY_SECONDS):
            while (await post(self.first.endpoint, login.access_token)).status_code == 401:
                await anyio.sleep(0.25)
        await self.connect_as(login)

    async def server_is_down(self, server):
        await control(server, "/test/down")
        try:
            await self.first.echo("without the authorization server")
            await self.connect_as(self.first.login)
        finally:
            await control(server, "/test/up")


async def control(server, path):
    async with http.AsyncClient() as client:
        return (await client.post(server + path)).raise_for_status().text


async def checks_of(options, check):
    async with anyio.create_task_group() as tasks:
        checks = Run(options.url, tasks)
        if not await check("401, token and session", checks.authorized):
            return
        if options.expiry:
            for title, on_new_connection in [
                ("once", False), ("twice", False), ("on a new connection", True), ("once more", False)
            ]:
                await check(f"expired {title}", checks.expired, on_new_connection)
        elif options.rotate:
            await check("a new key", checks.new_key, options.authorization_server)
            await check("the old key goes on", checks.first.echo, "with the old key")
            await check("without the authorization server", checks.server_is_down, options.authorization_server)
            await check("a new key, after a failure", checks.new_key, options.authorization_server)
        else:
            await check("list tools", checks.list_tools)
            await check("20 calls at once", checks.calls_at_once)
            await check("another connection needs no browser", checks.connect_as, checks.first.login)
            await check("bad tokens", checks.bad_tokens)
            await check("a session is for one user", checks.session_is_for_one_user)
        await check("close", checks.first.close)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="http://HOST:PORT/sse")
    parser.add_argument("--as", dest="authorization_server", help="http://HOST:PORT, for --rotate")
    parser.add_argument("--expiry", action="store_true")
    parser.add_argument("--rotate", action="store_true")
    run(f"python-oauth {VERSION}", checks_of, parser.parse_args())
