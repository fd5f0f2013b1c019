"""Transformer encoders on onnxruntime: from folders as sentence-transformers and ONNX exporters write them."""
