"""The demo: a synthetic strip with planted defects, through the whole line, and what was found of it."""
