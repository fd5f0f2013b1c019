"""vLLM's engine, driven from inside this process: GPU builds and the CPU build alike."""
