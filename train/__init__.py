"""The lab: datasets, models, losses and the fit that trains them."""
