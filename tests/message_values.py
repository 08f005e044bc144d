"""Values of every field, for the messages whose bytes two releases share."""

from pathlib import Path

from pareta_agent.contract.fleet_view import EndpointView, FleetView, ReplicaView
from pareta_agent.contract.usage_record import Admission, Outcome, Tokens, UsageRecord

ADMISSION = Admission("req_1", "org_a", "key_a", "ep_a", "task", "alias-1", "/v1/completions", True, 1.7e9)
TOKENS, REASONS = Tokens(10, 2, 5, 1), ("stop", "length")
RECORD = UsageRecord(
    ADMISSION, Outcome.COMPLETED, "engine_final", TOKENS, REASONS, 2, 1, 0.25, 1.5, "ep_a/0", 3, "0.11.0", 7, "mine"
)  # fmt: skip
REPLICA = ReplicaView("ep_a/0", 3, Path("/run/e.sock"), "0.11.0", 16, 2.5)
FLEET = FleetView({"ep_a": EndpointView(
    "ep_a", "org_a", "task", "alias-1", "live", (REPLICA,), 4096, "be brief", True, None, None, 17, True,
    "base-1", "ad", False, 1.25,
)})  # fmt: skip
