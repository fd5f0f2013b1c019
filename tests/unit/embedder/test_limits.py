"""What is refused, and which field it names."""

import pytest

from services.embedder.limits import TextLimits
from services.kit.errors import InvalidArgument
from services.kit.settings import SettingsError, load_settings

LIMITS = TextLimits(max_texts=3, max_text_bytes=8)


@pytest.mark.parametrize(
    ("texts", "field", "reason"),
    [
        pytest.param([], "texts", "NO_TEXT", id="no text"),
        pytest.param(["a"] * 4, "texts", "TOO_MANY_TEXTS", id="too many"),
        pytest.param(["a", "", "c"], "texts[1]", "EMPTY_TEXT", id="an empty one"),
        pytest.param(["a", "b", "123456789"], "texts[2]", "TEXT_TOO_LONG", id="too long"),
        pytest.param(["äääää"], "texts[0]", "TEXT_TOO_LONG", id="bytes count, not characters"),
    ],
)
def test_refused(texts: list[str], field: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        LIMITS.check_all(texts, "texts")
    assert (caught.value.field, caught.value.reason) == (field, reason)
    assert field in caught.value.message


def test_what_just_fits_is_taken() -> None:
    LIMITS.check_all(["12345678", "ääää", " "], "texts")


def test_a_queue_that_no_full_request_fits_into_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match="max_texts"):
        load_settings(embedder={"max_texts": 100, "max_queued_texts": 99})
