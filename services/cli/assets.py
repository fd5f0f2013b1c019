"""Finds the files that come with Weft: in the installed package, or else in the checkout that it runs from."""

from pathlib import Path

from services.cli.problem import Problem

_PACKAGED = Path(__file__).parent / "data"
_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_IN_CHECKOUT = {"envoy.yaml": _CHECKOUT / "envoy" / "envoy.yaml", "weft.binpb": _CHECKOUT / "gen" / "weft.binpb"}


def asset(name: str) -> Path:
    """The absolute path of `envoy.yaml` or `weft.binpb`. Raises Problem where it is missing."""
    for path in (_PACKAGED / name, _IN_CHECKOUT[name]):
        if path.is_file():
            return path
    raise Problem(f"{name} is missing from this installation: install Weft again")


def own_documents() -> list[Path]:
    """This project's own documents: those of the checkout, or the page that is installed with the package."""
    names = ("README.md", "CHANGELOG.md", "docs", "envoy/README.md")
    found = [
        _CHECKOUT / name for name in names if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / name).exists()
    ]
    return [*found, _PACKAGED / "about.md"]
