#!/usr/bin/env python3
"""Writes <name>.safetensors beside itself: tiny random models computed by Hugging Face transformers, all in float64.

Each file holds the weights under their Hugging Face names, "input_ids" [B, T], "logits" [B, T, V], "loss" (mean
cross-entropy of the next token) and "grad.<weight>" of that loss; config.json is in the metadata. hf_test.cc reads them.

transformers computes norms, softmax and rotary angles in float32 whatever the model's type. Here those casts are lifted:
while a model is built and run, torch.float32 is torch.float64 and Tensor.float() is Tensor.double(). A padding token
would keep its embedding's gradient from being counted, so there is none.

Needs torch 2.13 and transformers 5.23:   python tests/trainer_parity/hf/make_hf_fixtures.py [NAME...]
"""
import json
import os
import sys
from unittest import mock

import torch
import transformers
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
V, T, B = 40, 12, 2

ROPE = {"rope_type": "default", "rope_theta": 500.0}
LLAMA = dict(vocab_size=V, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
             max_position_embeddings=32, rope_parameters=ROPE)
MODELS = {
    "llama": (transformers.LlamaConfig, dict(LLAMA, rms_norm_eps=1e-5)),
    # Grouped queries, heads wider than d / H, tied.
    "llama_gqa": (transformers.LlamaConfig, dict(LLAMA, num_key_value_heads=2, head_dim=6, tie_word_embeddings=True)),
    # Biases everywhere.
    "llama_bias": (transformers.LlamaConfig, dict(LLAMA, attention_bias=True, mlp_bias=True)),
    "mistral": (transformers.MistralConfig, dict(LLAMA, num_key_value_heads=2, sliding_window=5)),
    "phi3": (transformers.Phi3Config, dict(LLAMA, num_key_value_heads=2, pad_token_id=None, sliding_window=None,
                                           original_max_position_embeddings=32,
                                           rope_parameters=dict(ROPE, partial_rotary_factor=1.0))),
    "gpt2": (transformers.GPT2Config, dict(vocab_size=V, n_positions=16, n_embd=16, n_layer=2, n_head=4, n_inner=40)),
    "gpt_neox": (transformers.GPTNeoXConfig, dict(vocab_size=V, hidden_size=16, intermediate_size=40, num_hidden_layers=2,
                                                  num_attention_heads=2, max_position_embeddings=32,
                                                  rope_parameters=dict(ROPE, partial_rotary_factor=0.25))),
    "gptj": (transformers.GPTJConfig, dict(vocab_size=V, n_positions=32, n_embd=16, n_layer=2, n_head=2, rotary_dim=4,
                                           n_inner=40)),
    "olmo2": (transformers.Olmo2Config, dict(LLAMA, num_key_value_heads=2, pad_token_id=None)),
    # Windows of 4 on even layers; small caps, so that they bend.
    "gemma2": (transformers.Gemma2Config, dict(LLAMA, pad_token_id=None, intermediate_size=20, num_hidden_layers=3,
                                               num_key_value_heads=2,
                                               head_dim=6, query_pre_attn_scalar=9, sliding_window=4,
                                               attn_logit_softcapping=2.0, final_logit_softcapping=3.0)),
}


def float64_everywhere():
    stack = mock.patch.multiple(torch, float32=torch.float64, float=torch.float64)
    return stack, mock.patch.object(torch.Tensor, "float", torch.Tensor.double)


def make(name):
    kind, fields = MODELS[name]
    config = kind(**fields)
    config._attn_implementation = "eager"
    for key in ("resid_pdrop", "embd_pdrop", "attn_pdrop", "attention_dropout", "hidden_dropout"):
        if hasattr(config, key):
            setattr(config, key, 0.0)
    torch.manual_seed(sum(name.encode()))
    types, method = float64_everywhere()
    with types, method:
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float64).double()
        model.train()
        with torch.no_grad():
            for key, p in model.named_parameters():
                p.copy_(torch.randn(p.shape, dtype=torch.float64) * (0.3 if p.dim() > 1 else 0.2))
                if p.dim() == 1 and key.endswith("weight") and kind is not transformers.Gemma2Config:
                    p.add_(1.0)  # gains around 1; Gemma's are 1 + w
                if key == "lm_head.bias":  # GPT-J's alone; Plumb's head has none
                    p.zero_()
        ids = torch.randint(0, V, (B, T))
        logits = model(input_ids=ids, use_cache=False).logits
        assert logits.dtype == torch.float64
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, V), ids[:, 1:].reshape(-1))
        loss.backward()
    tensors = {"input_ids": ids, "logits": logits.detach(), "loss": loss.detach().reshape(1)}
    for key, p in model.named_parameters():
        assert p.grad is not None and p.grad.abs().max() > 1e-6, f"{name}: no gradient in {key}"
        tensors[key] = p.detach().clone()
        tensors["grad." + key] = p.grad
    config.architectures = [type(model).__name__]
    text = json.dumps(config.to_dict())
    path = os.path.join(HERE, name + ".safetensors")
    save_file({k: t.contiguous() for k, t in tensors.items()}, path, {"config": text})
    print(f"{name:12} loss {loss.item():.6f}  logits up to {logits.abs().max().item():.2f}  "
          f"{os.path.getsize(path) / 1e3:.0f} kB")
    assert os.path.getsize(path) < 150_000


if __name__ == "__main__":
    for name in sys.argv[1:] or MODELS:
        make(name)
