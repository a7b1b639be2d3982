"""Inspect and publish: engines, heads, the loop, the journal and the wire."""
