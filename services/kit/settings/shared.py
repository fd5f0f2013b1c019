"""Settings that every service has."""

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of the settings tree: unknown keys are errors, and values do not change after start."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GrpcSettings(Section):
    """Limits of gRPC servers and channels."""

    max_message_bytes: int = Field(default=48 * 1024 * 1024, ge=64 * 1024, description="Largest message, both ways.")
    max_concurrent_calls: int = Field(default=20_000, ge=1, description="Calls under way at one server.")
    keepalive_s: float = Field(default=20.0, ge=1.0, description="Idle time before a ping.")
    keepalive_timeout_s: float = Field(default=10.0, gt=0.0, description="Time for the ping's answer.")
    stop_grace_s: float = Field(
        default=10.0, ge=0.0, description="Time that calls have to finish when a service stops."
    )


class TelemetrySettings(Section):
    """Where traces go."""

    otlp_endpoint: str = Field(default="", description="OTLP gRPC endpoint for traces; empty turns them off.")
    otlp_insecure: bool = Field(default=True, description="Speak plain text to the endpoint.")
