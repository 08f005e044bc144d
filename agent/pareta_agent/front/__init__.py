"""Who asks, and where does it go?"""

from pareta_agent.front.deps import FrontDeps, FrontSettings
from pareta_agent.front.front import Front

__all__ = ["Front", "FrontDeps", "FrontSettings"]
