"""Channels to other services, with the message limits and keepalive that their servers expect."""

import grpc
import grpc.aio

from services.kit.server import message_options
from services.kit.settings.shared import GrpcSettings


def dial(address: str, settings: GrpcSettings, *, own_connection: bool = False) -> grpc.aio.Channel:
    """A channel to host:port; it connects on first use and again, with backoff, whenever the connection is lost.

    `own_connection` keeps it from sharing a connection with another channel to the same address. The caller closes it.
    """
    options: list[tuple[str, int]] = [
        *message_options(settings),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # Retries have one owner per hop, and that is never the channel.
        ("grpc.enable_retries", 0),
    ]
    if own_connection:
        options.append(("grpc.use_local_subchannel_pool", 1))
    return grpc.aio.insecure_channel(address, options=options)
