"""The vLLM backend's contract over llama.cpp, as a Triton Python backend: tests have a real model without a GPU.

Inputs, outputs, flags and error texts are those of triton-inference-server/vllm_backend. It runs in Triton's own
Python, which has xllamacpp and none of Weft.
"""

import contextlib
import http.client
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
import xllamacpp

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
SLOTS = 16
# What vLLM generates where max_tokens is not set.
DEFAULT_MAX_TOKENS = 16
# llama.cpp reads this seed as "choose one".
RANDOM_SEED = 0xFFFFFFFF
_TOO_LONG = re.compile(r"request \((\d+) tokens\) exceeds")
_NAMES = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repetition_penalty": "repeat_penalty",
    "max_tokens": "n_predict",
    "ignore_eos": "ignore_eos",
    "stop": "stop",
}
_TYPES = {"string", "number", "integer", "boolean", "object", "array", "null"}
_STRUCTURES = {"json", "json_object", "choice", "grammar", "regex"}


def _input(request: Any, name: str, default: Any) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy().reshape(-1)[0]


def _structure(text: str) -> dict[str, Any]:
    """What StructuredOutputsParams holds, as llama.cpp takes it."""
    asked = json.loads(text)
    if len(asked) != 1 or not set(asked) <= _STRUCTURES:
        raise ValueError(f"You must use one kind of structured outputs constraint but got: {asked}")
    if "json" in asked:
        _check_types(asked["json"])
        return {"json_schema": asked["json"]}
    if "json_object" in asked:
        return {"json_schema": {"type": "object"}}
    if "grammar" in asked:
        return {"grammar": asked["grammar"]}
    if "choice" in asked:
        literals = (json.dumps(choice, ensure_ascii=False) for choice in asked["choice"])
        return {"grammar": f"root ::= {' | '.join(literals)}"}
    re.compile(asked["regex"])
    expression = asked["regex"].replace("/", "\\/")
    return {"grammar": f"%llguidance {{}}\nstart: /{expression}/"}


def _check_types(schema: Any) -> None:
    """llama.cpp lets types through that do not exist; what vLLM compiles schemas with refuses them."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str) and schema["type"] not in _TYPES:
            raise ValueError(f"Unsupported type in the JSON schema: {schema['type']}")
        for value in schema.values():
            _check_types(value)


def _body(text: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The request for llama.cpp's /completion; unknown parameters are refused as vLLM refuses them."""
    body: dict[str, Any] = {"prompt": text, "stream": True, "return_progress": True, "cache_prompt": True, "min_p": 0.0}
    body |= {"n_predict": DEFAULT_MAX_TOKENS, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    for name, value in parameters.items():
        if name in ("structured_outputs", "guided_decoding"):
            body |= _structure(value)
        elif name == "logprobs":
            body["n_probs"] = max(1, value)
        elif name == "seed":
            body["seed"] = value % RANDOM_SEED
        elif name in _NAMES:
            body[_NAMES[name]] = value
        elif name != "lora_name":
            raise TypeError(f"Unexpected keyword argument '{name}'")
    return body


def _in_vllms_words(message: str) -> str:
    """What vLLM would say instead, for the errors that callers have to tell from others."""
    if (found := _TOO_LONG.search(message)) is not None:
        return (
            f"The decoder prompt (length {found[1]}) is longer than the maximum model length. "
            "Make sure that `max_model_len` is no smaller than the number of text tokens."
        )
    return message


class Llama:
    """One model file, served on a loopback port of its own."""

    def __init__(self, path: str, context_tokens: int) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = path
        params.n_parallel = SLOTS
        params.n_ctx = SLOTS * context_tokens
        params.n_gpu_layers = 0
        params.verbosity = -1
        # So that an answer is the same again, whatever is in the cache.
        params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
        params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.ui = False
        params.cpuparams.n_threads = 1
        params.cpuparams_batch.n_threads = 1
        self._server = xllamacpp.Server(params)
        self._address = self._server.listening_address.removeprefix("http://")
        for _ in self.events({"prompt": [0], "n_predict": 1, "stream": True}):
            pass

    def events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The answer's events; closing the iterator early stops llama.cpp's work on it."""
        with contextlib.closing(http.client.HTTPConnection(self._address)) as connection:
            connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise ValueError(_in_vllms_words(json.loads(response.read())["error"]["message"]))
            while line := response.readline():
                if line.startswith(b"data: {"):
                    event = json.loads(line[6:])
                    if "error" in event:
                        raise ValueError(_in_vllms_words(event["error"]["message"]))
                    yield event


class TritonPythonModel:
    """One thread for each request, as llama.cpp's server is asked over blocking connections."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model and its adapters, which are models of their own here."""
        parameters = json.loads(args["model_config"])["parameters"]
        self._context_tokens = int(parameters["max_model_len"]["string_value"])
        self._delay_s = float(parameters["token_delay_s"]["string_value"])
        folder = Path(args["model_repository"])
        self._llama = Llama(parameters["gguf"]["string_value"], self._context_tokens)
        adapters = json.loads((folder / args["model_version"] / "multi_lora.json").read_text())
        self._adapters = {name: Llama(path, self._context_tokens) for name, path in adapters.items()}
        labels = {"model": args["model_name"], "version": args["model_version"]}
        gauge = pb_utils.MetricFamily.GAUGE
        self._families = [
            pb_utils.MetricFamily(name=f"vllm:{name}", description=f"As vLLM's {name}.", kind=gauge)
            for name in ("num_requests_running", "num_requests_waiting", "gpu_cache_usage_perc")
        ]
        self._gauges = [family.Metric(labels=labels) for family in self._families]
        self._lock = threading.Lock()
        self._under_way = 0
        self._stopping = threading.Event()

    def _count(self, change: int) -> None:
        with self._lock:
            self._under_way += change
            self._gauges[0].set(min(self._under_way, SLOTS))
            self._gauges[1].set(max(0, self._under_way - SLOTS))
            self._gauges[2].set(min(self._under_way, SLOTS) / SLOTS)

    def execute(self, requests: list[Any]) -> None:
        """Each request answers through its sender."""
        for request in requests:
            self._count(1)
            threading.Thread(target=self._run, args=(request,), daemon=True).start()

    def _run(self, request: Any) -> None:
        sender = request.get_response_sender()
        try:
            self._infer(request, sender)
        except Exception as error:
            text = pb_utils.Tensor("text_output", np.asarray([b"N/A"], dtype=np.object_))
            failure = pb_utils.TritonError(f"Error generating stream: {error}")
            sender.send(pb_utils.InferenceResponse([text], failure), flags=FINAL)
        finally:
            self._count(-1)

    def _infer(self, request: Any, sender: Any) -> None:
        parameters = json.loads(_input(request, "sampling_parameters", b"{}"))
        lora = parameters.get("lora_name")
        if lora is not None and lora not in self._adapters:
            message = f"LoRA {lora} is not supported, we currently support {list(self._adapters)}"
            sender.send(pb_utils.InferenceResponse([], pb_utils.TritonError(message)), flags=FINAL)
            return
        try:
            body = _body(_input(request, "text_input", b"").decode(), parameters)
        except Exception as error:
            # vLLM's backend logs what was wrong and trips over the missing parameters.
            pb_utils.Logger.log_error(f"[vllm] Was trying to create `TritonSamplingParams`, but got exception: {error}")
            raise AttributeError("'NoneType' object has no attribute 'lora_name'") from error
        if not _input(request, "stream", False):
            raise ValueError("these tests have no use for answers in one piece")
        if not _input(request, "exclude_input_in_output", True):
            raise ValueError("When streaming, `exclude_input_in_output` = False is not allowed.")
        self._stream(request, sender, self._adapters[lora] if lora else self._llama, body)

    def _stream(self, request: Any, sender: Any, llama: Llama, body: dict[str, Any]) -> None:
        sent = 0
        with contextlib.closing(llama.events(body)) as events:
            for event in events:
                if sender.is_cancelled():
                    error = pb_utils.TritonError("Request was cancelled", pb_utils.TritonError.CANCELLED)
                    sender.send(pb_utils.InferenceResponse([], error), flags=FINAL)
                    return
                if "prompt_progress" in event:
                    continue
                count = event["tokens_predicted"]
                sender.send(self._response(request, event, count - sent), flags=FINAL if event["stop"] else 0)
                sent = count
                if self._delay_s:
                    self._stopping.wait(self._delay_s)

    def _response(self, request: Any, event: dict[str, Any], new: int) -> Any:
        tensors = [pb_utils.Tensor("text_output", np.asarray([event["content"].encode()], dtype=np.object_))]
        if _input(request, "return_finish_reason", False):
            reason = {"none": "None", "limit": "length"}.get(event.get("stop_type", "none"), "stop")
            tensors.append(pb_utils.Tensor("finish_reason", np.asarray([reason.encode()], dtype=np.object_)))
        if _input(request, "return_num_input_tokens", False):
            tensors.append(pb_utils.Tensor("num_input_tokens", np.asarray(event["tokens_evaluated"], dtype=np.uint32)))
        if _input(request, "return_num_output_tokens", False):
            tensors.append(pb_utils.Tensor("num_output_tokens", np.asarray([new], dtype=np.uint32)))
        if _input(request, "return_logprobs", False):
            tensors.append(pb_utils.Tensor("logprobs", np.asarray([_logprobs(event)], dtype=np.object_)))
        return pb_utils.InferenceResponse(tensors)

    def finalize(self) -> None:
        """Ends the delays of answers that are still under way."""
        self._stopping.set()


def _logprobs(event: dict[str, Any]) -> bytes:
    """For each token an object by token id, the chosen one first, as the backend writes vLLM's."""
    tokens = []
    for item in event.get("completion_probabilities") or []:
        ranked = item["top_logprobs"]
        entry = {str(item["id"]): {"logprob": item["logprob"], "rank": 1, "decoded_token": item["token"]}}
        for rank, other in enumerate(ranked, start=1):
            entry[str(other["id"])] = {"logprob": other["logprob"], "rank": rank, "decoded_token": other["token"]}
        tokens.append(entry)
    return json.dumps(tokens).encode() if tokens else b"null"
