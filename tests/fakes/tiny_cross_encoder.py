"""A cross-encoder of a few bytes: a real ONNX graph that counts how many words the query and the passage share."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

_WORDS = ("[UNK]", "[CLS]", "[SEP]", "heron", "swan", "otter", "wades", "sings", "swims")


def write(folder: Path, *, logits: int = 1) -> Path:
    """Writes model.onnx and tokenizer.json into the folder, which it makes."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(_WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    # One-hot words of either side, summed up; their product over the words that mean something is what both have.
    depth, first = len(_WORDS), 3
    nodes = [
        helper.make_node("OneHot", ["input_ids", "depth", "values"], ["words"], axis=-1),
        helper.make_node("Cast", ["token_type_ids"], ["side"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["side", "last"], ["passage_mask"]),
        helper.make_node("Sub", ["one", "passage_mask"], ["query_mask"]),
        helper.make_node("Mul", ["words", "passage_mask"], ["passage_words"]),
        helper.make_node("Mul", ["words", "query_mask"], ["query_words"]),
        helper.make_node("ReduceSum", ["passage_words", "middle"], ["passage"], keepdims=0),
        helper.make_node("ReduceSum", ["query_words", "middle"], ["query"], keepdims=0),
        helper.make_node("Mul", ["passage", "query"], ["both"]),
        helper.make_node("MatMul", ["both", "weights"], ["logits"]),
    ]
    weights = np.zeros((depth, logits), "f4")
    weights[first:, logits - 1] = 1.0
    constants = {
        "depth": np.asarray(depth, "i8"),
        "values": np.asarray([0.0, 1.0], "f4"),
        "last": np.asarray([-1], "i8"),
        "one": np.asarray(1.0, "f4"),
        "middle": np.asarray([1], "i8"),
        "weights": weights,
    }
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["n", "t"]) for n in ("input_ids", "token_type_ids")]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", logits])
    made = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, [output], made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "model.onnx"))
    return folder
