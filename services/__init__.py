"""Weft's services. They share `services.kit` and the generated contracts in `weft`, and never import each other."""

import os

# gRPC reads this when it is first imported. Its fork handlers run in every child that a service starts, although each
# becomes another program at once, and now and then they end the child before that.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
