"""Finds the files that come with Weft: in the installed package, or else in the checkout that it runs from."""

from pathlib import Path

from services.cli.problem import Problem

_PACKAGED = Path(__file__).parent / "data"
CHECKOUT = Path(__file__).resolve().parent.parent.parent
_IN_CHECKOUT = {"envoy.yaml": CHECKOUT / "envoy" / "envoy.yaml", "weft.binpb": CHECKOUT / "gen" / "weft.binpb"}


def asset(name: str) -> Path:
    """The absolute path of `envoy.yaml` or `weft.binpb`. Raises Problem where it is missing."""
    for path in (_PACKAGED / name, _IN_CHECKOUT[name]):
        if path.is_file():
            return path
    raise Problem(f"{name} is missing from this installation: install Weft again")
