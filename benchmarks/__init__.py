"""Latency, throughput, overhead and accuracy, measured."""
