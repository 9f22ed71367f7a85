"""The clouds, projects and members of the acceptance tests: one cloud for all tests of a module."""

from __future__ import annotations

from tests.integration.acceptance.conftest import cloud, tenant, whole_cloud
from tests.integration.sdk.command import cirra, environment, watching

__all__ = ["cirra", "cloud", "environment", "tenant", "watching", "whole_cloud"]
