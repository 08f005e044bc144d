"""Support: the kernels, dtypes and devices that an engine version can use."""
