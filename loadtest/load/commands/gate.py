"""Exit codes for scripts: a run that lost tokens, or failed more than it may, is not a success."""

from collections.abc import Mapping
from typing import Any

from services.cli.problem import INTERRUPTED, Problem


def check(found: Mapping[str, Any], max_error_share: float | None) -> None:
    """Raises Problem where the run was interrupted (exit code 130), or is no success.

    It is none where tokens were lost or repeated, where more than this share of the answers failed, or all did.
    """
    whole = found["whole"]
    if found["interrupted_s"] is not None:
        raise Problem("interrupted: the results are of what was sent until then", exit_code=INTERRUPTED)
    wrong = whole["lost_tokens"] + whole["repeated_tokens"] + whole["missing_tokens"]
    if wrong:
        raise Problem(f"{wrong} tokens were lost or came twice: see results.json")
    if max_error_share is not None and whole["error_share"] > max_error_share:
        raise Problem(
            f"{whole['error_share']:.2%} of the answers failed; --max-error-share allows {max_error_share:.2%}"
        )
    if not whole["ok"]:
        raise Problem("no answer came whole: see the errors above")
