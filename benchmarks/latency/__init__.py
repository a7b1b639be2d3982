"""How long a network takes, stage by stage, beside torch and beside the backend's own API."""
