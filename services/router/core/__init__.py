"""The router's decisions as pure functions and plain state: no I/O, no clock, no chance of their own, no protobuf."""
