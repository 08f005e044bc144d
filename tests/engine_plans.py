"""The plan of a small engine on the CPU, for what runs engines without planning them."""

from pareta_agent.planning.plan import Footprint, Plan

PLAN = Plan(
    variant="bf16",
    platform="cpu",
    gpus=((),),
    tp=1,
    pp=1,
    dp=1,
    expert_parallel=False,
    replicas=1,
    dtype="float32",
    kv_cache_dtype="auto",
    max_model_len=1024,
    max_num_seqs=4,
    max_num_batched_tokens=1024,
    gpu_memory_utilization=None,
    kv_cache_bytes=256 * 1024**2,
    enforce_eager=True,
    footprint=Footprint(0, 0, 0, 0, 0, 0),
    kv_tokens=4096,
)
