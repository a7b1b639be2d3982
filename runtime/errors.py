"""The errors that cross a border of the runtime, one type a border.

Each text says who: what was found, what was expected. What to do.
"""

from __future__ import annotations


class ConfigError(ValueError):
    """A line configuration cannot be used."""


class BundleError(ValueError):
    """A bundle is missing, incomplete, altered, or failed its parity."""


class EngineError(RuntimeError):
    """A backend is absent, or an engine failed to open or to run."""


class JournalError(RuntimeError):
    """The journal cannot be opened, read or written."""


class WireError(RuntimeError):
    """What came over the wire cannot be used, or messages can no longer be had."""
