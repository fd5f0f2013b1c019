"""Any GGUF model through llama.cpp, inside this process (xllamacpp)."""
