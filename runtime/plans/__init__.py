"""Plans of TensorRT: what they were made for, whether they may run here, and what is kept beside them.

Read `manifest.py` first, then `in_bundle.py` and `preflight.py`.
"""
