"""Conformance kits and fakes for plugin authors."""

import pytest

pytest.register_assert_rewrite(
    "echo_core.testing.ai_kit",
    "echo_core.testing.storage_kit",
    "echo_core.testing.storage_http_kit",
    "echo_core.testing.storage_probe",
)
