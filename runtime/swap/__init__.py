"""Changing the bundle while a station runs: asked for, made ready beside the one that serves, swapped between batches.

Read `changes.py` first, then `preparation.py`; `station.py` puts them together.
docs/decisions/0012-a-bundle-is-changed-between-two-batches.md says why.
"""
