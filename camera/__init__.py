"""Grab frames: drivers, the shared-memory ring and the process that fills it."""
