"""Changing the bundle while the line runs: asked for, made ready beside the one that serves, swapped between batches.

Read `changes.py` first, then `preparation.py`; docs/decisions/0012-a-bundle-is-changed-between-two-batches.md says why.
"""
