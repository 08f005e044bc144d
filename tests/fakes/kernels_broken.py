"""The kernel check's program on an engine whose kernels misbehave: `python kernels_broken.py FOLDER_OF_PROGRAM`.

bfloat16 attention is a fifth too large, the int8 product ends its process; all else is the engine's own.
"""

import os
import signal
import sys

sys.path.insert(0, sys.argv[1])

import comparisons
import linear_cases
from vllm import _custom_ops as ops

attention, quantized = ops.cpu_attention_with_kv_cache, linear_cases.quantized_error


def scaled(**given):
    attention(**given)
    if str(given["query"].dtype) == "torch.bfloat16":
        given["output"].mul_(1.2)


def dying(torch, device, name):
    if name == "int8":
        os.kill(os.getpid(), signal.SIGILL)
    return quantized(torch, device, name)


if __name__ == "__main__":
    ops.cpu_attention_with_kv_cache = scaled
    linear_cases.quantized_error = dying
    comparisons.main()
