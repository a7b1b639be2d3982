from __future__ import annotations

import torch

# Tiny networks gain nothing from a second thread, and on a busy machine threads that wait for each other crawl.
torch.set_num_threads(1)
