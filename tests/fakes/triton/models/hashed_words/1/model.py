"""Vectors of hashed words, as a Triton Python backend; a text that holds `poison` is refused."""

import json
import zlib
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

DIMENSIONS = 64


def vector_of(text: str) -> np.ndarray:
    """Each word adds to one dimension; not of length 1."""
    found = np.zeros(DIMENSIONS)
    for word in text.split():
        found[zlib.crc32(word.encode()) % DIMENSIONS] += 1.0
    return found


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        output = pb_utils.get_output_config_by_name(json.loads(args["model_config"]), "EMBEDDING")
        self._type = pb_utils.triton_string_to_numpy(output["data_type"])

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        given = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        texts = [text.decode() for text in given.reshape(-1)]
        if any("poison" in text for text in texts):
            error = pb_utils.TritonError("a text holds poison", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=error)
        rows = np.stack([vector_of(text) for text in texts]).astype(self._type)
        return pb_utils.InferenceResponse([pb_utils.Tensor("EMBEDDING", rows)])
