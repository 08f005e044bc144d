"""The engines' series under other names."""

from pareta_agent.gateway.upstream.engine_metrics import exposition, relabel

TEXT = """# HELP vllm:num_requests_running x
vllm:num_requests_running{engine="0",model_name="/weights/secret"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} 3.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 1.5
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 4.0
vllm:cache_config_info{model="/weights/secret"} 1.0
vllm:num_requests_running_bucket{le="1"} 1.0
python_info{version="3.11"} 1.0
vllm:prompt_tokens_total{engine="0"} /weights/secret
broken line
"""


def test_allowed_series_are_told_under_the_endpoints_name():
    """Renamed, labelled anew, nothing of the model left."""
    text = exposition([relabel(TEXT, "ep_x", "0")]).decode()
    at = 'endpoint="ep_x",replica="0"'
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        f"pareta_engine_requests_running{{{at}}} 2.0",
        f"pareta_engine_kv_cache_usage_ratio{{{at}}} 0.5",
        f'pareta_engine_time_to_first_token_seconds_bucket{{{at},le="+Inf"}} 3.0',
        f"pareta_engine_time_to_first_token_seconds_sum{{{at}}} 1.5",
        f'pareta_engine_requests_finished_total{{{at},finished_reason="stop"}} 4.0',
    ]


def test_several_engines_share_one_family():
    """Help and type once, then all samples."""
    text = exposition([relabel(TEXT, "ep_x", "0"), relabel(TEXT, "ep_y", "0")]).decode()
    assert text.count("# TYPE pareta_engine_requests_running gauge") == 1
    assert text.count("pareta_engine_requests_running{") == 2
