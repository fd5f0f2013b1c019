"""What each engine does on its own, behind a worker, and behind the whole mesh."""
