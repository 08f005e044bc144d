"""Shim of release 0.1: a running 0.1 agent restarts its gateway workers as `python -m pareta_agent.front.worker`."""

import runpy

runpy.run_module("pareta_agent.gateway.worker_main", run_name="__main__")
