#!/usr/bin/env python3
"""Writes the parity fixtures: an independent plain PyTorch reference of the presets `llama` and `gpt2`, trained for 50
AdamW steps. Run it with the project's Python: make_fixture.py [--check-float64]. Written from the formulas, not from
the trainer: RMSNorm (Zhang & Sennrich 2019), LayerNorm, half-rotation RoPE (Su et al. 2021), grouped queries (Ainslie et
al. 2023), SwiGLU (Shazeer 2020), tanh-GELU, GPT-2's tied head, torch.optim.AdamW with decay on matrices alone, gradient
clipping by global norm, linear warm-up into a cosine.

Format of NAME.safetensors: safetensors; `__metadata__.spec` is the trial config, the tensors are
  weights by their name in the trainer's layout (float32, linear weights [in, out]),
  `tokens` [steps, batch, seq_len + 1] int32 (inputs are [:-1], targets [1:]), `losses` [steps] float64: the mean loss of
  each step before its update, in nats, and `grad_norms` [steps] float64, before clipping.
"""
import argparse
import json
import math
import os
import struct

import numpy as np
import torch
import torch.nn.functional as F

STEPS, BATCH, SEQ, VOCAB = 50, 4, 16, 256
TRAIN = {"steps": STEPS, "batch_tokens": BATCH * SEQ, "lr": 3e-3, "schedule": "cosine", "warmup_steps": 8,
         "final_lr_fraction": 0.1, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95, "adam_eps": 1e-8, "grad_clip": 0.5,
         "divergence_factor": 0, "log_every": 1}
SHAPES = {
    "llama": {"preset": "llama", "n_layers": 2, "d_model": 32, "n_heads": 4, "n_kv_heads": 2, "d_ff": 88,
              "vocab_size": VOCAB},
    "gpt2": {"preset": "gpt2", "n_layers": 2, "d_model": 32, "n_heads": 4, "d_ff": 128, "vocab_size": VOCAB,
             "max_positions": SEQ},
}


def rate(step):
    """Of the update that follows `step` finished updates: linear to lr over the warm-up, then half a cosine that reaches
    its floor at the last update."""
    warm, total, floor = TRAIN["warmup_steps"], TRAIN["steps"], TRAIN["final_lr_fraction"]
    if step < warm:
        return TRAIN["lr"] * (step + 1) / warm
    progress = (step + 1 - warm) / (total - warm)
    return TRAIN["lr"] * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def initial_weights(name):
    """Larger than a real initialisation, biases and gains off their neutral values: every term must matter."""
    shape = SHAPES[name]
    d, f, h = shape["d_model"], shape["d_ff"], shape["d_model"] // shape["n_heads"]
    kv = shape.get("n_kv_heads", shape["n_heads"])
    gpt2 = name == "gpt2"
    rng = np.random.default_rng(20 + len(name))
    weights = {}

    def add(key, *size, scale=0.08, centre=0.0):
        weights[key] = (centre + scale * rng.standard_normal(size)).astype(np.float32)

    def norm(key):
        add(key + ".weight", d, scale=0.1, centre=1.0)
        if gpt2:
            add(key + ".bias", d, scale=0.05)

    def linear(key, n_in, n_out):
        add(key + ".weight", n_in, n_out, scale=1 / math.sqrt(n_in))
        if gpt2:
            add(key + ".bias", n_out, scale=0.05)

    add("embed.weight", VOCAB, d, scale=0.2)
    if gpt2:
        add("position.weight", SEQ, d, scale=0.1)
    for layer in range(shape["n_layers"]):
        block = f"blocks.{layer}."
        norm(block + "attn_norm")
        linear(block + "attn.qkv", d, d + 2 * kv * h)
        linear(block + "attn.out", d, d)
        norm(block + "mlp_norm")
        linear(block + ("mlp.up" if gpt2 else "mlp.gate_up"), d, f if gpt2 else 2 * f)
        linear(block + "mlp.down", f, d)
    norm("final_norm")
    if not gpt2:
        add("head.weight", d, VOCAB, scale=0.1)
    return weights


def rotate(x, base=10000.0):  # [B, H, T, h]
    t, h = x.shape[-2], x.shape[-1]
    angle = torch.arange(t, dtype=torch.float64)[:, None] * base ** (-torch.arange(0, h, 2, dtype=torch.float64) / h)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., : h // 2], x[..., h // 2:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def forward(name, w, tokens):
    shape = SHAPES[name]
    d, heads, layers = shape["d_model"], shape["n_heads"], shape["n_layers"]
    kv, h = shape.get("n_kv_heads", heads), d // heads
    gpt2 = name == "gpt2"
    b, t = tokens.shape

    def norm(x, key):
        if gpt2:
            return F.layer_norm(x, (d,), w[key + ".weight"], w[key + ".bias"], eps=1e-5)
        return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * w[key + ".weight"]

    def linear(x, key):
        y = x @ w[key + ".weight"]
        return y + w[key + ".bias"] if gpt2 else y

    x = w["embed.weight"][tokens]
    if gpt2:
        x = x + w["position.weight"][:t]
    mask = torch.full((t, t), float("-inf"), dtype=x.dtype).triu(1)
    for layer in range(layers):
        block = f"blocks.{layer}."
        q, k, v = linear(norm(x, block + "attn_norm"), block + "attn.qkv").split([heads * h, kv * h, kv * h], -1)
        q = q.view(b, t, heads, h).transpose(1, 2)
        k, v = (z.view(b, t, kv, h).transpose(1, 2) for z in (k, v))
        if not gpt2:
            q, k = rotate(q), rotate(k)
        k, v = (z.repeat_interleave(heads // kv, dim=1) for z in (k, v))
        attention = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(h) + mask, -1) @ v
        x = x + linear(attention.transpose(1, 2).reshape(b, t, d), block + "attn.out")
        y = norm(x, block + "mlp_norm")
        if gpt2:
            y = F.gelu(linear(y, block + "mlp.up"), approximate="tanh")
        else:
            gate, up = linear(y, block + "mlp.gate_up").chunk(2, -1)
            y = F.silu(gate) * up
        x = x + linear(y, block + "mlp.down")
    x = norm(x, "final_norm")
    return x @ (w["embed.weight"].T if gpt2 else w["head.weight"])


def train(name, weights, tokens, dtype):
    w = {key: torch.tensor(value, dtype=dtype, requires_grad=True) for key, value in weights.items()}
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in w.values() if p.dim() >= 2], "weight_decay": TRAIN["weight_decay"]},
         {"params": [p for p in w.values() if p.dim() < 2], "weight_decay": 0.0}],
        lr=TRAIN["lr"], betas=(TRAIN["beta1"], TRAIN["beta2"]), eps=TRAIN["adam_eps"])
    losses, norms = [], []
    for step in range(STEPS):
        batch = torch.from_numpy(tokens[step]).long()
        optimizer.zero_grad()
        logits = forward(name, w, batch[:, :-1])
        loss = F.cross_entropy(logits.reshape(-1, VOCAB), batch[:, 1:].reshape(-1))
        loss.backward()
        norm = math.sqrt(sum(p.grad.double().pow(2).sum().item() for p in w.values()))
        for p in w.values():
            p.grad.mul_(min(1.0, TRAIN["grad_clip"] / norm))
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm)
    return np.array(losses), np.array(norms)


def make_tokens(name):
    """A noisy walk, so that there is something to learn."""
    rng = np.random.default_rng(7 + len(name))
    moves = rng.choice([1, 3, 7, 11], size=(STEPS, BATCH, SEQ + 1), p=[0.55, 0.25, 0.15, 0.05])
    return (np.cumsum(moves, axis=-1) % VOCAB).astype(np.int32)


def save(path, tensors, metadata):
    names = {"float32": "F32", "float64": "F64", "int32": "I32"}
    header, offset = {"__metadata__": metadata}, 0
    for key, value in tensors.items():
        header[key] = {"dtype": names[str(value.dtype)], "shape": list(value.shape),
                       "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            out.write(value.tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check-float64", action="store_true", help="print how far float32 is from float64")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name, shape in SHAPES.items():
        weights, tokens = initial_weights(name), make_tokens(name)
        losses, norms = train(name, weights, tokens, torch.float32)
        print(f"{name}: loss {losses[0]:.6f} -> {losses[-1]:.6f}, gradient norm {norms.min():.3f} … {norms.max():.3f}")
        if arguments.check_float64:
            exact, _ = train(name, weights, tokens, torch.float64)
            print(f"  float32 against float64: {np.max(np.abs(losses - exact) / exact):.2e} relative at worst")
        spec = {"model": shape, "train": TRAIN, "data": {"corpus": "fixture", "tokenizer": "bytes", "seq_len": SEQ}}
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".safetensors")
        save(path, {**weights, "tokens": tokens, "losses": losses, "grad_norms": norms}, {"spec": json.dumps(spec)})


if __name__ == "__main__":
    main()
