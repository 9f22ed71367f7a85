"""What tests are made with: real servers as pytest fixtures (``servers``), and the kits of saga and log.

Load the fixtures with ``pytest_plugins = ["core.testing.servers"]`` in the top ``conftest.py``.
"""
