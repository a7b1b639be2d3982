"""Inference backends, one file each, imported late."""
