"""Stations that score a picture when one comes: into a hot folder, or with a request."""
