"""Placement: layouts of replicas over GPUs and over CPU cores."""
