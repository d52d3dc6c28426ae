"""The small run of the passes' tests."""

from tests.passes.conftest import small_config

__all__ = ["small_config"]
