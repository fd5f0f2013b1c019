"""The commands of `weft load`."""
