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


class DataError(ValueError):
    """Training or evaluation data is missing or damaged; the text names the file, and the row where there is one."""


class TrainingError(RuntimeError):
    """A training cannot go on: its loss is no longer a number. The checkpoint of the last whole epoch stays."""
