"""The PyTorch side of the comparison, driven over stdin like ours.cc: "steps N" answers "WALL CPU LOSS".

Eager PyTorch as one would write it for speed: fused scaled_dot_product_attention, fused AdamW, set_to_none, foreach
clipping, the loss read once per call and not per step. One packed qkv and one packed gate/up projection, as ours.
  peer.py PRESET d_model n_layers n_heads d_ff seq_len batch vocab K TOKENS_FILE   (K models are trained in turn)
"""
import resource
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, gpt2, d, heads, f):
        super().__init__()
        self.gpt2, self.heads = gpt2, heads
        norm = nn.LayerNorm if gpt2 else nn.RMSNorm
        self.attn_norm, self.mlp_norm = norm(d, eps=1e-5), norm(d, eps=1e-5)
        self.qkv = nn.Linear(d, 3 * d, bias=gpt2)
        self.out = nn.Linear(d, d, bias=gpt2)
        self.up = nn.Linear(d, f if gpt2 else 2 * f, bias=gpt2)
        self.down = nn.Linear(f, d, bias=gpt2)

    def forward(self, x, cos, sin):
        b, t, d = x.shape
        q, k, v = (z.view(b, t, self.heads, -1).transpose(1, 2) for z in self.qkv(self.attn_norm(x)).split(d, -1))
        if not self.gpt2:
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
        y = self.up(self.mlp_norm(x))
        if self.gpt2:
            y = F.gelu(y, approximate="tanh")
        else:
            gate, up = y.chunk(2, -1)
            y = F.silu(gate) * up
        return x + self.down(y)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Model(nn.Module):
    def __init__(self, preset, d, layers, heads, f, seq_len, vocab):
        super().__init__()
        self.gpt2 = preset == "gpt2"
        self.embed = nn.Embedding(vocab, d)
        self.position = nn.Embedding(seq_len, d) if self.gpt2 else None
        self.blocks = nn.ModuleList(Block(self.gpt2, d, heads, f) for _ in range(layers))
        self.norm = nn.LayerNorm(d) if self.gpt2 else nn.RMSNorm(d, eps=1e-5)
        self.head = nn.Linear(d, vocab, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
                if getattr(module, "bias", None) is not None:
                    nn.init.zeros_(module.bias)
        if self.gpt2:
            self.head.weight = self.embed.weight
        h = d // heads
        angle = torch.arange(seq_len)[:, None] * 10000.0 ** (-torch.arange(0, h, 2) / h)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())
        self.register_buffer("times", torch.arange(seq_len))

    def forward(self, ids, targets):
        x = self.embed(ids)
        if self.gpt2:
            x = x + self.position(self.times)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def main():
    preset = sys.argv[1]
    d, layers, heads, f, seq_len, batch, vocab, rows = map(int, sys.argv[2:10])
    torch.set_num_threads(1)
    torch.manual_seed(1)
    tokens = torch.frombuffer(bytearray(open(sys.argv[10], "rb").read()), dtype=torch.int64)
    runs = []
    for _ in range(rows):
        model = Model(preset, d, layers, heads, f, seq_len, vocab)
        groups = [{"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
                  {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}]
        runs.append((model, torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)))
    per_batch = batch * (seq_len + 1)
    batches, step = len(tokens) // per_batch, 0

    def train(model, optimizer, first, n):
        for i in range(first, first + n):
            start = i % batches * per_batch
            sample = tokens[start:start + per_batch].view(batch, seq_len + 1)
            loss = model(sample[:, :-1], sample[:, 1:])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
            optimizer.step()
        return loss

    for line in sys.stdin:
        n = int(line.split()[1])
        usage, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        losses = [train(model, optimizer, step, n) for model, optimizer in runs]
        loss = losses[0].item()
        wall = time.perf_counter() - wall
        after = resource.getrusage(resource.RUSAGE_SELF)
        step += n
        print(f"{wall:.6f} {after.ru_utime - usage.ru_utime + after.ru_stime - usage.ru_stime:.6f} {loss:.6f}",
              flush=True)


if __name__ == "__main__":
    main()
