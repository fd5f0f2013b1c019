"""Which files of a folder or a bucket are taken for documents. A file that is named itself is always tried."""

ENDINGS = (
    ".csv",
    ".docx",
    ".htm",
    ".html",
    ".json",
    ".jsonl",
    ".markdown",
    ".md",
    ".ndjson",
    ".pdf",
    ".rst",
    ".text",
    ".tsv",
    ".txt",
    ".xhtml",
)
_FOLDERS = frozenset({"node_modules", "__pycache__", "__MACOSX", "venv", "site-packages"})
_FILES = frozenset({"package-lock.json", "composer.lock", "thumbs.db"})


def is_wanted_folder(name: str) -> bool:
    """Whether to look into it: not where it is hidden, or holds what tools have put there."""
    return not name.startswith(".") and name not in _FOLDERS


def is_wanted_file(name: str) -> bool:
    """Whether its ending is a known one, and it is neither hidden nor a tool's."""
    return not name.startswith((".", "~$")) and name.lower() not in _FILES and name.lower().endswith(ENDINGS)
