"""Models behind a server: TEI, anything that speaks OpenAI's embeddings, Triton; and llama.cpp on a loopback port."""
