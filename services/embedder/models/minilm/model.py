"""MiniLM as this project ships it: its name, its limits, and its network."""

from tokenizers import Tokenizer

from services.embedder.models.minilm.weights import Weights
from services.embedder.models.onnx.network import OnnxNetwork
from services.embedder.ports import ModelInfo

NAME = "all-minilm-l6-v2"
MAX_TOKENS = 256
_DIMENSIONS = 384


def minilm(
    model: bytes, weights: Weights, fingerprint: str, precision: str = "int8", name: str = NAME, max_tokens: int = 0
) -> OnnxNetwork:
    """The network on these files. The graph pools by itself."""
    tokens = min(max_tokens or MAX_TOKENS, MAX_TOKENS)
    info = ModelInfo(name, _DIMENSIONS, tokens, fingerprint, f"onnxruntime {precision}")
    return OnnxNetwork(info, model, Tokenizer.from_file(str(weights.tokenizer)), "mean")
