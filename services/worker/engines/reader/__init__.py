"""The embedded default: answers from the passages in the prompt, by extraction and with citations. No model."""
