"""The official Python SDK (`mcp`), where its major versions 1.x and 2.x differ."""

from contextlib import asynccontextmanager
from importlib.metadata import version

VERSION = version("mcp")
NAME = f"python-mcp {VERSION}"

if VERSION.startswith("1."):
    from mcp import ClientSession, types

    @asynccontextmanager
    async def connect(transport, **callbacks):
        """Yields a client and the name of its server."""
        # Streamable HTTP gives a third value besides the two streams.
        async with transport as (read, write, *_), ClientSession(read, write, **callbacks) as session:
            yield session, (await session.initialize()).serverInfo.name

    async def cancel_request(session, request_id):
        """1.x tells the server nothing about an abandoned call; its users send the notification themselves."""
        params = types.CancelledNotificationParams(requestId=request_id)
        await session.send_notification(types.ClientNotification(types.CancelledNotification(params=params)))

else:
    from mcp import Client

    @asynccontextmanager
    async def connect(transport, **options):
        """Yields a client and the name of its server."""
        async with Client(transport, **options) as client:
            yield client, client.server_info.name

    async def cancel_request(_client, _request_id):
        """2.x has sent the notification itself by the time the abandoned call returns."""
