"""What guards the taps of a host: checks against spoofing, and security groups."""

from __future__ import annotations
