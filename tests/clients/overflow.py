"""What litellm makes of a prompt that is too long, in both dialects: the name of its exception, one a line."""

from __future__ import annotations

import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would ask the network at its import

import litellm

base_url, key, endpoint = sys.argv[1:4]
for provider, base in (("openai", f"{base_url}/v1"), ("anthropic", base_url)):
    try:
        litellm.completion(
            model=f"{provider}/{endpoint}",
            api_base=base,
            api_key=key,
            messages=[{"role": "user", "content": "word " * 5000}],
            max_tokens=5,
            num_retries=0,
        )
    except Exception as error:
        print(provider, type(error).__name__, flush=True)
