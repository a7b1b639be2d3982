"""Heads: engine outputs to findings, one pure module a task."""
