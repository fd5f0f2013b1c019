"""The I/O shell that every service shares: servers, channels, errors, settings, logs, metrics. It decides nothing."""
