"""Kernel check: compares an engine's compute kernels with float32 before anything is served."""
