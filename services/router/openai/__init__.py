"""OpenAI's chat, completions and models paths, over the same dispatch as the router's own service."""
