"""Envoy's settings."""

from pydantic import Field

from services.kit.settings.shared import Section


class EnvoySettings(Section):
    """The front door for web callers and gRPC clients."""

    host: str = Field(default="127.0.0.1", description="Where it listens.")
    port: int = Field(default=8080, ge=0, le=65535, description="HTTP and gRPC for clients.")
    admin_port: int = Field(default=9901, ge=0, le=65535, description="Envoy's own admin port, on loopback.")
    concurrency: int = Field(default=1, ge=1, le=256, description="Worker threads.")
    body_limit_bytes: int = Field(default=48 * 1024 * 1024, ge=1024, description="Largest body, both ways.")
