"""Results as they come, for a person at a terminal: `ferrosight watch`."""
