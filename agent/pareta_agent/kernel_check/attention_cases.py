"""Attention cases: prefill, decode, prefix hit and chunked prefill over a paged cache, by head size and query group.

Run by `program.py` in the engine's interpreter; never imported by the agent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import product
from typing import Any

from case_row import LIMITS, Row, described, measured, relative

HEAD_SIZES = (64, 96, 128)
QUERY_GROUPS = (1, 3, 4, 8)
"""Query heads for each KV head (grouped-query attention)."""
KV_HEADS = 2
BLOCK_TOKENS = {"cpu": 128, "cuda": 16}
CASES: dict[str, list[tuple[int, int]]] = {
    "prefill": [(37, 37), (130, 130)],
    "decode": [(1, 38), (1, 161), (1, 5)],
    "prefix hit": [(17, 145), (3, 131)],
    "chunked prefill with decodes": [(1, 150), (64, 64), (33, 161)],
}
"""Sequences of one batch as (tokens computed now, tokens in all)."""


def attention_rows(torch: Any, platform: str, dtype: str) -> Iterator[Row]:
    kind = getattr(torch, dtype)
    kernels = cpu_attention() if platform == "cpu" else cuda_attention()
    for (kernel, name_of), head, group in product(kernels, HEAD_SIZES, QUERY_GROUPS):
        try:
            name = name_of(kind, head)
        except Exception as error:
            yield Row(
                "attention", "unknown", dtype, f"head size {head}", LIMITS[dtype], None, described(error)
            )
            continue
        for case, sequences in CASES.items():
            title = f"{case}, head size {head}, {group} query heads a KV head"
            batch = Attention.of(torch, platform, kind, head, group, sequences)
            row = Row("attention", name, dtype, title, LIMITS[dtype])
            yield from measured(row, partial(batch.error, kernel))


@dataclass(frozen=True)
class Attention:
    """A batch over a paged cache. `queries` are the new tokens, `keys` and `values` all tokens of each sequence."""

    torch: Any
    device: str
    block: int
    sequences: list[tuple[int, int]]
    queries: list[Any]
    keys: list[Any]
    values: list[Any]

    @classmethod
    def of(
        cls, torch: Any, device: str, dtype: Any, head: int, group: int, sequences: list[tuple[int, int]]
    ) -> Attention:
        def random(tokens: int, heads: int) -> Any:
            return torch.randn(tokens, heads, head).to(device=device, dtype=dtype)

        return cls(
            torch,
            device,
            BLOCK_TOKENS[device],
            sequences,
            [random(new, KV_HEADS * group) for new, _ in sequences],
            [random(total, KV_HEADS) for _, total in sequences],
            [random(total, KV_HEADS) for _, total in sequences],
        )

    def error(self, kernel: Callable[[Attention], Any]) -> float:
        references = [self.reference(index) for index in range(len(self.sequences))]
        return float(relative(kernel(self), self.torch.cat(references)))

    def reference(self, index: int) -> Any:
        """softmax(QKᵀ/√d)V with a causal mask, in float32."""
        torch, (new, total) = self.torch, self.sequences[index]
        query = self.queries[index].float()
        group = query.shape[1] // KV_HEADS
        key, value = (of[index].float().repeat_interleave(group, 1) for of in (self.keys, self.values))
        scores = torch.einsum("nhd,mhd->hnm", query, key) * query.shape[2] ** -0.5
        at = torch.arange(new, device=self.device)[:, None] + total - new
        hidden = torch.arange(total, device=self.device)[None, :] > at
        return torch.einsum("hnm,mhd->nhd", scores.masked_fill(hidden, float("-inf")).softmax(-1), value)

    @property
    def scale(self) -> float:
        return 1.0 / math.sqrt(self.queries[0].shape[2])

    def blocks(self) -> list[list[int]]:
        """The cache blocks of each sequence, in reversed order; block 0 belongs to no sequence."""
        counts = [-(-total // self.block) for _, total in self.sequences]
        starts = [1 + sum(counts[:index]) for index in range(len(counts))]
        return [list(range(start, start + count))[::-1] for start, count in zip(starts, counts, strict=True)]

    def slots(self, index: int) -> Any:
        own = self.blocks()[index]
        where = [
            own[at // self.block] * self.block + at % self.block for at in range(self.sequences[index][1])
        ]
        return self.torch.tensor(where, dtype=self.torch.int64, device=self.device)

    def table(self) -> Any:
        widest = max(map(len, self.blocks()))
        rows = [own + [0] * (widest - len(own)) for own in self.blocks()]
        return self.torch.tensor(rows, dtype=self.torch.int32, device=self.device)

    def lengths(self) -> tuple[Any, Any]:
        """The start of each sequence's queries, and the lengths of the sequences."""
        torch, starts = self.torch, [0]
        for new, _ in self.sequences:
            starts.append(starts[-1] + new)
        totals = [total for _, total in self.sequences]
        return tuple(torch.tensor(each, dtype=torch.int32, device=self.device) for each in (starts, totals))


def cpu_cache(it: Attention, ops: Any, isa: str) -> tuple[Any, Any]:
    """The paged cache [block, KV head, token, size], filled like the engine's: first the prefix, then new tokens."""
    count, (_, _, head) = 1 + sum(map(len, it.blocks())), it.keys[0].shape
    cache = it.torch.zeros(count, KV_HEADS, 2 * it.block, head, dtype=it.keys[0].dtype)
    keys, values = cache.chunk(2, dim=2)
    for index, (new, total) in enumerate(it.sequences):
        for part in (slice(0, total - new), slice(total - new, total)):
            if part.stop > part.start:
                slots = it.slots(index)[part]
                own = it.keys[index][part], it.values[index][part]
                ops.cpu_attn_reshape_and_cache(*own, keys, values, slots, isa)
    return keys, values


def cpu_attention() -> list[tuple[Callable[[Attention], Any], Callable[[Any, int], str]]]:
    """vLLM's CPU backend, with the instruction set that the engine selects."""
    ops = import_module("vllm._custom_ops")
    choose = import_module("vllm.v1.attention.backends.cpu_attn")._get_attn_isa

    def kernel(it: Attention) -> Any:
        torch, query = it.torch, it.torch.cat(it.queries)
        _, heads, head = query.shape
        isa = choose(query.dtype, it.block, head)
        keys, values = cpu_cache(it, ops, isa)
        starts, lengths = it.lengths()
        plan = ops.cpu_attn_get_scheduler_metadata(
            num_reqs=len(it.sequences),
            num_heads=heads,
            num_kv_heads=KV_HEADS,
            head_dim=head,
            seq_lens=lengths,
            dtype=query.dtype,
            query_start_loc=starts,
            causal=True,
            sliding_window_size=-1,
            isa=isa,
            enable_kv_split=True,
        )
        out = torch.empty_like(query)
        ops.cpu_attention_with_kv_cache(
            query=query,
            key_cache=keys,
            value_cache=values,
            output=out,
            query_start_loc=starts,
            seq_lens=lengths,
            scale=it.scale,
            causal=True,
            alibi_slopes=None,
            sliding_window=-1,
            block_table=it.table(),
            softcap=0,
            scheduler_metadata=plan,
            s_aux=None,
        )
        return out

    return [(kernel, lambda dtype, head: str(choose(dtype, BLOCK_TOKENS["cpu"], head)))]


def cuda_attention() -> list[tuple[Callable[[Attention], Any], Callable[[Any, int], str]]]:
    """FlashAttention and vLLM's Triton kernel, over the same paged cache [block, token, KV head, size]."""

    def cache(it: Attention) -> tuple[Any, Any]:
        torch = it.torch
        count = 1 + sum(map(len, it.blocks()))
        whole = [
            torch.zeros(
                count * it.block, KV_HEADS, it.keys[0].shape[2], dtype=it.keys[0].dtype, device="cuda"
            )
            for _ in range(2)
        ]
        for index in range(len(it.sequences)):
            for part, of in zip(whole, (it.keys, it.values), strict=True):
                part[it.slots(index)] = of[index]
        keys, values = (part.view(count, it.block, KV_HEADS, -1) for part in whole)
        return keys, values

    def common(it: Attention) -> dict[str, Any]:
        keys, values = cache(it)
        starts, lengths = it.lengths()
        query = it.torch.cat(it.queries)
        return {
            "q": query,
            "k": keys,
            "v": values,
            "cu_seqlens_q": starts,
            "seqused_k": lengths,
            "max_seqlen_q": max(new for new, _ in it.sequences),
            "max_seqlen_k": max(total for _, total in it.sequences),
            "softmax_scale": it.scale,
            "causal": True,
            "block_table": it.table(),
            "out": it.torch.empty_like(query),
        }

    def flash(it: Attention) -> Any:
        given = common(it)
        import_module("vllm.vllm_flash_attn").flash_attn_varlen_func(**given)
        return given["out"]

    def triton(it: Attention) -> Any:
        given = common(it)
        unified = import_module("vllm.v1.attention.ops.triton_unified_attention").unified_attention
        scales = dict.fromkeys(("q_descale", "k_descale", "v_descale"))
        unified(**given, window_size=(-1, -1), softcap=0.0, **scales)
        return given["out"]

    return [(flash, lambda *_: "FLASH_ATTN"), (triton, lambda *_: "TRITON_ATTN")]
