"""The clouds, projects and members of the acceptance tests: one cloud for all tests of a module."""

from __future__ import annotations

<<<<<<< HEAD
from tests.integration.acceptance.conftest import cloud, tenant, whole_cloud
from tests.integration.sdk.command import cirra

__all__ = ["cirra", "cloud", "tenant", "whole_cloud"]
=======
from tests.integration.acceptance.conftest import cloud, module_cell, tenant, whole_cloud
from tests.integration.sdk.command import cirra, environment, watching

__all__ = ["cirra", "cloud", "environment", "module_cell", "tenant", "watching", "whole_cloud"]
>>>>>>> 87bcad5 (cirra: --watch on lists and shows; errors that say what to do; subnets have timelines; the contract walked for every method and field)
