"""The one address where processes are started: engines, pip, the embedded plane.

A child gets its own session and dies with the agent's main thread (PR_SET_PDEATHSIG) when asked to.
"""

from __future__ import annotations
