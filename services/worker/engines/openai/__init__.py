"""The `openai` engine: any OpenAI-compatible HTTP server as an upstream."""
