"""What Triton's errors mean for a request. Triton gives words and seldom a status, so that its words are read here."""

import re

import grpc
import grpc.aio

from services.kit.errors import Exhausted, Internal, InvalidArgument, Unavailable, WeftError, from_rpc


class TritonError(WeftError):
    """The worker cannot begin with this Triton; the message says what to set."""

    reason_default = "TRITON"


# Texts of Triton's core, of its Python backend and of vLLM's backend, over the years.
_TOO_LONG = re.compile(r"maximum\s+model length|maximum context length|max_model_len", re.IGNORECASE)
_REFUSED = re.compile(
    r"LoRA .* (is not supported|is not enabled)|LoRA feature is not enabled"
    r"|Error generating stream: .*(must be|should be|constraint|not supported|invalid|Unsupported)",
    re.IGNORECASE,
)
_NO_STRUCTURE = re.compile(r"schema|grammar|regex|structured|json|guidance", re.IGNORECASE)
_NO_PARAMETERS = re.compile(r"'NoneType' object has no attribute")
_DEAD = re.compile(r"Stub process .* is not healthy|unhealthy vLLM engine|EngineDead|EngineCore encountered")
_FULL = re.compile(r"Exceeds maximum queue size|Request timeout expired", re.IGNORECASE)


def from_text(text: str, *, structured: bool = False) -> WeftError:
    """An error that came within an answer's stream; what is not known is taken for Triton's own trouble.

    `structured` says that the request asked for a form, which is then the likeliest to be wrong with it.
    """
    said, field = f"Triton says: {text}", "sampling.structure" if structured else "sampling"
    if _TOO_LONG.search(text):
        return InvalidArgument(said, reason="PROMPT_TOO_LONG", field="prompt")
    if _NO_PARAMETERS.search(text):
        message = "Triton's model does not take these sampling parameters; its log says which one and why"
        return InvalidArgument(message, reason="ENGINE_REFUSED", field=field)
    if _REFUSED.search(text) or (structured and _NO_STRUCTURE.search(text)):
        return InvalidArgument(said, reason="ENGINE_REFUSED", field=field)
    if _FULL.search(text):
        return Exhausted(said, reason="ENGINE_FULL")
    return Unavailable(said, reason="ENGINE_FAILED")


def is_dead(text: str) -> bool:
    """Whether the model itself has died, which Triton goes on calling ready."""
    return _DEAD.search(text) is not None


def from_status(error: grpc.aio.AioRpcError) -> WeftError:
    """The call itself failed: Triton is away, is full, or does not let this worker in."""
    code, said = error.code(), f"Triton ended the call with {error.code().name}: {error.details()}"
    # Triton itself names no delay, a gateway in front of it may.
    delay_s = from_rpc(error).retry_delay_s
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Exhausted(said, reason="ENGINE_FULL", retry_delay_s=delay_s)
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return Internal(f"{said}; see worker.triton.headers and cert_file", reason="ENGINE_REFUSES_WORKER")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidArgument(said, reason="ENGINE_REFUSED", field="prompt")
    return Unavailable(said, reason="ENGINE_BROKEN", retry_delay_s=delay_s)


def is_away(error: grpc.aio.AioRpcError) -> bool:
    """Whether the whole of Triton may be away, and not only this answer lost."""
    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
