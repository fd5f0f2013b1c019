"""MiniLM: sentence vectors of 384 dimensions on onnxruntime."""
