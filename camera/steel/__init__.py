"""Synthetic steel with exact truth: what the demo, the tests, the golden frames and the recipes are made of."""
