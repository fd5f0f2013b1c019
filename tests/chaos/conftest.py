"""Scenarios assert outside of test files, and pytest explains those asserts too."""

import pytest

pytest.register_assert_rewrite("tests.chaos.client", "tests.chaos.scenarios")
