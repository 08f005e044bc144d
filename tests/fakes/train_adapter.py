"""Trains a small LoRA adapter on one answer, in the engine's interpreter (torch, transformers): half a minute on a CPU.

`python train_adapter.py MODEL_DIR ADAPTER_DIR QUESTION ANSWER` writes what peft would: adapter_config.json and
adapter_model.safetensors.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

RANK, ALPHA, STEPS, LAYERS = 8, 16, 40, 8
MODULES = ("q_proj", "v_proj")


class Lora(torch.nn.Module):
    """A frozen linear layer plus a low-rank step that starts at nothing."""

    def __init__(self, base: torch.nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.a = torch.nn.Parameter(torch.randn(RANK, base.in_features) / base.in_features**0.5)
        self.b = torch.nn.Parameter(torch.zeros(base.out_features, RANK))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + x @ self.a.T @ self.b.T * (ALPHA / RANK)


def main(model_dir: str, adapter_dir: str, question: str, answer: str) -> None:
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    model.requires_grad_(False)
    layers: dict[str, Lora] = {}
    for number, layer in enumerate(model.model.layers[-LAYERS:], len(model.model.layers) - LAYERS):
        for name in MODULES:
            layers[f"model.layers.{number}.self_attn.{name}"] = lora = Lora(getattr(layer.self_attn, name))
            setattr(layer.self_attn, name, lora)
    asked = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    read = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    said = tokenizer(f"{answer}<|im_end|>", add_special_tokens=False)["input_ids"]
    ids = torch.tensor([read + said])
    labels = torch.tensor([[-100] * len(read) + said])
    optimizer = torch.optim.AdamW([p for lora in layers.values() for p in (lora.a, lora.b)], lr=5e-3)
    for _ in range(STEPS):
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.01:
            break
    target = Path(adapter_dir)
    target.mkdir(parents=True)
    tensors = {}
    for name, lora in layers.items():
        for part, weight in (("A", lora.a), ("B", lora.b)):
            tensors[f"base_model.model.{name}.lora_{part}.weight"] = weight.detach().contiguous()
    save_file(tensors, target / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": list(MODULES),
        "bias": "none",
    }
    (target / "adapter_config.json").write_text(json.dumps(config))
    print(f"loss {loss.item():.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
