"""Names requests."""

import secrets


def new_request_id() -> str:
    """16 hexadecimal digits, from the system's own randomness."""
    return secrets.token_hex(8)
