#!/usr/bin/env python3
"""Block variants in float64, written from their formulas and from nothing else of this project.

One dense, slow model for all: attention as T x T matrices, shaped attention as alpha I + beta A - gamma C, one text at a time.
Formulas: He & Hofmann 2023 (arXiv 2311.01906, Eq. 1-7, 13) and their configs; arXiv 2405.19279 (OP); Llama 2's block and the
variants of seed 002; Sun et al. 2024; Switch Transformer's gate (arXiv 2101.03961). Parameters have this project's names,
weights [in, out].

    python make_block_fixtures.py        # writes <case>.safetensors beside this file; needs torch, safetensors
"""
import json
import math
import os

import torch
from safetensors.torch import save_file

torch.set_default_dtype(torch.float64)
HERE = os.path.dirname(os.path.abspath(__file__))
V, B, T = 20, 2, 8


class Model:
    """config: fields of section model by their short names, and router.* ones."""

    def __init__(self, seed, **config):
        base = dict(n_layers=2, d_model=8, n_heads=2, head_dim=4, d_ff=10, block="sequential", parallel_norms="shared",
                    norm="rmsnorm", norm_place="pre", norm_eps=1e-5, norm_eps_inside=True, norm_weight=True, norm_scaling="none",
                    final_norm="same", embed_norm="none", skip_attn=1.0, branch_attn=1.0, skip_mlp=1.0, branch_mlp=1.0,
                    trained=(), attn_matrix="plain", attn_gains="head", vp="full", vp_alpha=1.0, vp_beta=0.2, first_value="same",
                    qkv="fused", attn_bias=(), bias=False, qkv_act=False, score_bias=None, score_bias_max=T, qk_norm="none",
                    attn_softcap=0.0, logit_softcap=0.0, position="rope", mlp="swiglu", tied_head=False, value_residual=None,
                    embed_shortcut=False, embed_scale=1.0, unit_offset=False, attn_window=0, window_alternate=False, causal=True,
                    gate=None, steps=0, prefix=2, path=None)
        unknown = set(config) - set(base)
        assert not unknown, unknown
        self.c = type("Config", (), {**base, **config})()
        self.g = torch.Generator().manual_seed(seed)
        self.p = {}
        self._declare()

    # ---- parameters: random everywhere, so that nothing hides behind a zero or a one
    def _new(self, name, *shape, scale=0.5, around=0.0):
        self.p[name] = (around + scale * torch.randn(*shape, generator=self.g)).requires_grad_(True)

    def _norm(self, name, kind=None):
        c, kind = self.c, kind or self.c.norm
        if kind == "none" or (kind == "rmsnorm" and not c.norm_weight):
            return
        self._new(name + ".weight", c.d_model, scale=0.2, around=0.0 if c.unit_offset else 1.0)
        if kind in ("layernorm", "dyt"):
            self._new(name + ".bias", c.d_model, scale=0.2)
        if kind == "dyt":
            self._new(name + ".alpha", 1, scale=0.1, around=0.7)

    def _outer(self, kind):
        return self.c.norm if kind == "same" else kind

    def _declare(self):
        c, d, H, h, f = self.c, self.c.d_model, self.c.n_heads, self.c.head_dim, self.c.d_ff
        self._new("embed.weight", V, d, scale=1.0)
        if c.position == "learned":
            self._new("position.weight", T, d)
        self._norm("embed_norm", self._outer(c.embed_norm))
        for l in range(c.n_layers):
            b = f"blocks.{l}."
            if c.norm_place in ("pre", "peri", "post"):
                self._norm(b + "attn_norm")
                if c.block == "sequential" or c.parallel_norms == "separate":
                    self._norm(b + "mlp_norm")
            if c.norm_place in ("peri", "out"):
                self._norm(b + "attn_post_norm")
                self._norm(b + "mlp_post_norm")
            for gain in c.trained:
                self._new(b + gain, 1, scale=0.1, around=0.8)
            if c.embed_shortcut:
                self._new(b + "embed_mix.stream", 1, scale=0.1, around=1.0)
                self._new(b + "embed_mix.embed", 1, scale=0.1)
            a = b + "attn."
            if c.qkv == "fused":
                self._new(a + "qkv.weight", d, 3 * H * h)
                if "qkv" in c.attn_bias:
                    self._new(a + "qkv.bias", 3 * H * h)
            else:
                for n in "qk":
                    self._new(a + n + ".weight", d, H * h)
                    if c.attn_bias:
                        self._new(a + n + ".bias", H * h)
                if c.vp == "full":
                    self._new(a + "v.weight", d, H * h)
                elif c.vp == "reparam":
                    for n in ("v", "out"):
                        self._new(a + n + ".weight", d, d)
                        self._new(a + n + ".fixed", d, d)
                elif l == 0 and c.first_value == "reparam":
                    self._new(a + "v.weight", d, d)
                    self._new(a + "v.alpha", 1, around=1.0)
                    self._new(a + "v.beta", 1, around=1.0)
            if c.vp == "full":
                self._new(a + "out.weight", H * h, d)
            if c.qk_norm != "none" and c.norm_weight:
                for n in ("q_norm", "k_norm"):
                    self._new(a + n + ".weight", h if c.qk_norm == "head" else H * h, scale=0.2, around=1.0)
            if c.attn_matrix != "plain":
                for n in ("alpha", "beta") + (("gamma",) if c.attn_matrix == "shaped" else ()):
                    self._new(a + n, H if c.attn_gains == "head" else 1, scale=0.2, around=1.0)
            if c.score_bias == "dense":
                self._new(a + "score_bias.weight", d, c.score_bias_max)
                self._new(a + "score_bias.bias", c.score_bias_max)
            elif c.score_bias:  # hidden width
                self._new(a + "score_bias.hidden.weight", d, c.score_bias)
                self._new(a + "score_bias.hidden.bias", c.score_bias)
                self._new(a + "score_bias.weight", c.score_bias, c.score_bias_max)
                self._new(a + "score_bias.bias", c.score_bias_max)
            if c.value_residual == "trainable" and l > 0:
                self._new(a + "value_mix", 1, scale=0.1, around=0.5)
            if c.mlp in ("swiglu", "geglu", "geglu_tanh"):
                self._new(b + "mlp.gate_up.weight", d, 2 * f)
            else:
                self._new(b + "mlp.up.weight", d, f)
            self._new(b + "mlp.down.weight", f, d)
        self._norm("final_norm", self._outer(c.final_norm))
        if not c.tied_head:
            self._new("head.weight", d, V)
        if c.gate and c.gate != "fixed":
            for s in range(c.steps or c.n_layers):
                self._new(f"router.{s}.weight", d, c.n_layers + 1, scale=2.0)
                self._new(f"router.{s}.bias", c.n_layers + 1)

    # ---- forward, one text x [T, d]
    def norm(self, name, x, kind=None):
        c, kind = self.c, kind or self.c.norm
        if kind == "none":
            return x
        w = self.p.get(name + ".weight")
        if kind == "dyt":
            return torch.tanh(self.p[name + ".alpha"] * x) * w + self.p[name + ".bias"]
        if kind == "layernorm":
            m = x.mean(-1, keepdim=True)
            return (x - m) / torch.sqrt(((x - m) ** 2).mean(-1, keepdim=True) + c.norm_eps) * w + self.p[name + ".bias"]
        return self.rms(x, w)

    def rms(self, x, w):
        c, mean = self.c, (x**2).mean(-1, keepdim=True)
        y = x / torch.sqrt(mean + c.norm_eps) if c.norm_eps_inside else x / (torch.sqrt(mean) + c.norm_eps)
        return y if w is None else y * (1 + w if c.unit_offset else w)

    def gain(self, name, constant):
        return self.p[name] if name in self.p else constant

    def rope(self, x):
        """The first half of a head pairs with the second (Su et al. 2021, in the form of Llama)."""
        half = x.shape[-1] // 2
        angle = torch.arange(T)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        a, b = x[:, :half], x[:, half:]
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)

    def attention(self, l, x):
        c, d, H, h = self.c, self.c.d_model, self.c.n_heads, self.c.head_dim
        a, P = f"blocks.{l}.attn.", self.p
        gelu = torch.nn.functional.gelu
        if c.qkv == "fused":
            y = x @ P[a + "qkv.weight"] + P.get(a + "qkv.bias", 0)
            if c.qkv_act:
                y = gelu(y)
            q, k, v = y[:, : H * h], y[:, H * h : 2 * H * h], y[:, 2 * H * h :]
        else:
            q = x @ P[a + "q.weight"] + P.get(a + "q.bias", 0)
            k = x @ P[a + "k.weight"] + P.get(a + "k.bias", 0)
            if c.vp == "full":
                v = x @ P[a + "v.weight"]
            elif c.vp == "reparam":  # Eq. 6
                v = x @ (c.vp_alpha * P[a + "v.fixed"] + c.vp_beta * P[a + "v.weight"])
            elif a + "v.weight" in P:
                v = x @ (P[a + "v.alpha"] * torch.eye(d) + P[a + "v.beta"] * P[a + "v.weight"])
            else:
                v = x
        if c.value_residual:
            if l == 0:
                self.first_v = v
            else:
                mix = P[a + "value_mix"] if c.value_residual == "trainable" else c.value_residual
                v = (1 - mix) * v + mix * self.first_v
        if c.qk_norm == "full":
            q, k = self.rms(q, P.get(a + "q_norm.weight")), self.rms(k, P.get(a + "k_norm.weight"))
        bias = torch.zeros(T, T)
        if c.score_bias == "dense":
            bias = (x @ P[a + "score_bias.weight"] + P[a + "score_bias.bias"])[:, :T]
        elif c.score_bias:
            hidden = gelu(x @ P[a + "score_bias.hidden.weight"] + P[a + "score_bias.hidden.bias"])
            bias = (hidden @ P[a + "score_bias.weight"] + P[a + "score_bias.bias"])[:, :T]
        t = torch.arange(T)
        distance = t[:, None] - t[None, :]
        hidden = (distance < 0) if c.causal else torch.zeros(T, T, dtype=torch.bool)
        if c.attn_window and (not c.window_alternate or l % 2 == 0):
            hidden = hidden | (distance >= c.attn_window)
        uniform = (~hidden).double() / (~hidden).double().sum(-1, keepdim=True)  # C: softmax of zero scores
        heads = []
        for n in range(H):
            s = slice(n * h, (n + 1) * h)
            qn, kn, vn = q[:, s], k[:, s], v[:, s]
            if c.qk_norm == "head":
                qn, kn = self.rms(qn, P.get(a + "q_norm.weight")), self.rms(kn, P.get(a + "k_norm.weight"))
            if c.position == "rope":
                qn, kn = self.rope(qn), self.rope(kn)
            scores = qn @ kn.T / math.sqrt(h) + bias
            if c.attn_softcap:
                scores = c.attn_softcap * torch.tanh(scores / c.attn_softcap)
            if c.position == "alibi":
                scores = scores - 2.0 ** (-8.0 * (n + 1) / H) * distance.abs()
            A = torch.softmax(scores.masked_fill(hidden, -math.inf), -1)
            if c.attn_matrix != "plain":
                g = [P[a + name][n if c.attn_gains == "head" else 0] for name in ("alpha", "beta")]
                A = g[0] * torch.eye(T) + g[1] * A
                if c.attn_matrix == "shaped":
                    A = A - P[a + "gamma"][n if c.attn_gains == "head" else 0] * uniform
            heads.append(A @ vn)
        y = torch.cat(heads, -1)
        if c.vp == "full":
            return y @ P[a + "out.weight"]
        if c.vp == "reparam":
            return y @ (c.vp_alpha * P[a + "out.fixed"] + c.vp_beta * P[a + "out.weight"])
        return y

    def mlp(self, l, x):
        c, P, b, F = self.c, self.p, f"blocks.{l}.mlp.", torch.nn.functional
        if b + "gate_up.weight" in P:
            gate, up = (x @ P[b + "gate_up.weight"]).chunk(2, -1)
            act = {"swiglu": F.silu, "geglu": F.gelu, "geglu_tanh": lambda z: F.gelu(z, approximate="tanh")}[c.mlp]
            hidden = act(gate) * up
        else:
            z = x @ P[b + "up.weight"]
            hidden = {"relu": F.relu, "relu2": lambda y: F.relu(y) ** 2, "gelu_erf": F.gelu}[c.mlp](z)
        return hidden @ P[b + "down.weight"]

    def layer(self, l, x):
        c, b = self.c, f"blocks.{l}."
        if c.embed_shortcut:
            x = self.p[b + "embed_mix.stream"] * x + self.p[b + "embed_mix.embed"] * self.x0
        depth = 1 / math.sqrt(l + 1) if c.norm_scaling == "depth" else 1.0
        before = c.norm_place in ("pre", "peri")
        after = c.norm_place in ("peri", "out")
        enter = lambda name, y: depth * self.norm(b + name, y) if before else y
        leave = lambda name, y: depth * self.norm(b + name, y) if after else y
        a_skip, a_gain = self.gain(b + "attn_skip", c.skip_attn), self.gain(b + "attn_branch", c.branch_attn)
        m_skip, m_gain = self.gain(b + "mlp_skip", c.skip_mlp), self.gain(b + "mlp_branch", c.branch_mlp)
        if c.block == "parallel":
            n = enter("attn_norm", x)
            n2 = n if c.parallel_norms == "shared" else enter("mlp_norm", x)
            return m_skip * x + m_gain * leave("mlp_post_norm", self.mlp(l, n2)) + a_gain * leave(
                "attn_post_norm", self.attention(l, n))
        x = a_skip * x + a_gain * leave("attn_post_norm", self.attention(l, enter("attn_norm", x)))
        if c.norm_place == "post":
            x = self.norm(b + "attn_norm", x)
        x = m_skip * x + m_gain * leave("mlp_post_norm", self.mlp(l, enter("mlp_norm", x)))
        return self.norm(b + "mlp_norm", x) if c.norm_place == "post" else x

    def routed(self, x):
        c = self.c
        for s in range(c.steps or c.n_layers):
            if c.gate == "fixed":
                j = c.path[s]
                x = x if j < 0 else self.layer(j, x)
                continue
            u = x[: c.prefix].mean(0) @ self.p[f"router.{s}.weight"] + self.p[f"router.{s}.bias"]
            p = torch.softmax(u, -1)
            if c.gate == "soft":
                x = x + sum(p[j + 1] * (self.layer(j, x) - x) for j in range(c.n_layers))
            else:  # switch
                i = int(torch.argmax(u))
                x = x if i == 0 else x + p[i] * (self.layer(i - 1, x) - x)
        return x

    def logits(self, ids):
        c = self.c
        x = c.embed_scale * self.p["embed.weight"][ids]
        t = torch.arange(T)
        if c.position == "learned":
            x = x + self.p["position.weight"]
        if c.position == "sinusoidal":
            angle = t[:, None] * 10000.0 ** (-2 * torch.arange(c.d_model // 2) / c.d_model)
            x = x + torch.stack([angle.sin(), angle.cos()], -1).reshape(T, c.d_model)
        x = self.norm("embed_norm", x, self._outer(c.embed_norm))
        self.x0 = x
        if c.gate:
            x = self.routed(x)
        else:
            for l in range(c.n_layers):
                x = self.layer(l, x)
        x = self.norm("final_norm", x, self._outer(c.final_norm))
        z = x @ (self.p["embed.weight"].T if c.tied_head else self.p["head.weight"])
        return c.logit_softcap * torch.tanh(z / c.logit_softcap) if c.logit_softcap else z


PRELN = dict(position="learned", tied_head=True, mlp="relu", qkv="separate", attn_bias=("qk",), norm_eps_inside=False,
             final_norm="layernorm")
SKIPLESS = dict(PRELN, attn_matrix="shaped", skip_attn=0.0, trained=("attn_branch", "mlp_skip", "mlp_branch"))
SAS = dict(SKIPLESS, vp="identity", first_value="reparam")
SAS_P = dict(SAS, block="parallel", skip_mlp=0.0, trained=("attn_branch", "mlp_branch"))
NO_NORM = dict(norm="none", embed_norm="layernorm")
ONE_HEAD = dict(n_heads=1, head_dim=8)
GATE = dict(n_layers=3, prefix=2)

# name: (fields for Plumb by path, config of the model above)
CASES = {
    "preln": ({"model.preset": "preln"}, PRELN),
    "preln_paper": ({"model.preset": "preln", "model.position": "sinusoidal", "model.norm_eps_inside": True, "model.final_norm": "same"},
                    dict(PRELN, position="sinusoidal", norm_eps_inside=True, final_norm="same")),
    "gptj_parallel": ({"model.preset": "gptj_parallel"}, dict(PRELN, block="parallel")),
    "vskipinit": ({"model.preset": "vskipinit"}, SKIPLESS),
    "vskip_matrix": ({"model.preset": "vskipinit", "model.attn_matrix": "vskip"}, dict(SKIPLESS, attn_matrix="vskip")),
    "sas": ({"model.preset": "sas"}, SAS),
    "sas_layer_gains": ({"model.preset": "sas", "model.attn_gains": "layer"}, dict(SAS, attn_gains="layer")),
    "sas_both_sides": ({"model.preset": "sas", "model.causal": False, "train.objective": "mlm"}, dict(SAS, causal=False)),
    "sas_reparam": ({"model.preset": "sas", "model.vp": "reparam", "model.first_value": "same"}, dict(SKIPLESS, vp="reparam")),
    "sas_p": ({"model.preset": "sas_p"}, SAS_P),
    "sas_p_nonorm": ({"model.preset": "sas_p_nonorm"}, dict(SAS_P, **NO_NORM)),
    "op": ({"model.preset": "op"}, dict(PRELN, **NO_NORM, branch_attn=0.2, branch_mlp=0.2, qk_norm="head")),
    "llama_base": ({"model.preset": "llama_base", "model.n_heads": 1}, ONE_HEAD),
    "llama_gelu_qkv": ({"model.preset": "llama_gelu_qkv", "model.n_heads": 1}, dict(ONE_HEAD, attn_bias=("qkv",), qkv_act=True)),
    "llama_sep_qkv": ({"model.preset": "llama_sep_qkv", "model.n_heads": 1}, dict(ONE_HEAD, qkv="separate")),
    "llama_score_bias": ({"model.preset": "llama_score_bias", "model.n_heads": 1}, dict(ONE_HEAD, score_bias="dense")),
    "score_bias_two_layers": ({"model.score_bias": "mlp", "model.score_bias_hidden": 5, "model.score_bias_max": 11},
                              dict(score_bias=5, score_bias_max=11)),
    "phi3_switch": ({"model.preset": "phi3_dynamic", "model.n_layers": 3, "router.prefix": 2}, dict(GATE, gate="switch")),
    "phi3_soft": ({"model.preset": "phi3_dynamic", "model.n_layers": 3, "router.prefix": 2, "router.gate": "soft"},
                  dict(GATE, gate="soft")),
    "phi3_fixed": ({"model.preset": "phi3_dynamic", "model.n_layers": 3, "router.prefix": 2, "router.gate": "fixed", "router.steps": 4,
                    "router.path": "2,-1,0,2", "router.balance": 0}, dict(GATE, gate="fixed", steps=4, path=[2, -1, 0, 2])),
    "modded": ({"model.preset": "modded", "model.n_layers": 3},
               dict(n_layers=3, mlp="relu2", qk_norm="head", norm_weight=False, value_residual="trainable", embed_shortcut=True,
                    embed_norm="same", logit_softcap=30.0)),
    "peri": ({"model.norm_place": "peri", "model.norm": "layernorm"}, dict(norm_place="peri", norm="layernorm")),
    "post": ({"model.norm_place": "post"}, dict(norm_place="post")),
    "norm_scaling": ({"model.norm_scaling": "depth", "model.n_layers": 3}, dict(norm_scaling="depth", n_layers=3)),
    "dyt": ({"model.norm": "dyt"}, dict(norm="dyt")),
    "alibi": ({"model.position": "alibi", "model.value_residual": "fixed", "model.value_residual_mix": 0.3},
              dict(position="alibi", value_residual=0.3)),
    "softcaps": ({"model.attn_softcap": 2, "model.logit_softcap": 3, "model.attn_window": 4, "model.attn_window_pattern": "alternate",
                  "model.mlp": "geglu_tanh", "model.norm_unit_offset": True, "model.embed_scale": 3},
                 dict(attn_softcap=2.0, logit_softcap=3.0, attn_window=4, window_alternate=True, mlp="geglu_tanh", unit_offset=True,
                      embed_scale=3.0)),
    "parallel_two_norms": ({"model.block": "parallel", "model.parallel_norms": "separate", "model.mlp": "gelu_erf"},
                           dict(block="parallel", parallel_norms="separate", mlp="gelu_erf")),
    "qk_norm_full": ({"model.qk_norm": "full", "model.norm_place": "out"}, dict(qk_norm="full", norm_place="out")),
}


def main():
    for number, (name, (fields, config)) in enumerate(CASES.items()):
        model = Model(1000 + number, **config)
        c = model.c
        fields = {"model.n_layers": c.n_layers, "model.d_model": c.d_model, "model.n_heads": c.n_heads, "model.d_ff": c.d_ff,
                  "model.vocab_size": V, "data.tokenizer": "ids:18", "data.seq_len": T, "train.steps": 1, "train.batch_tokens": T, **fields}
        ids = torch.randint(0, 18, (B, T), generator=model.g)
        targets = torch.randint(0, 18, (B, T), generator=model.g)
        targets[0, :3] = -1
        logits = torch.stack([model.logits(text) for text in ids])
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, V), targets.reshape(-1), ignore_index=-1)
        loss.backward()
        out = {"ids": ids, "targets": targets, "logits": logits.detach(), "loss": loss.detach().reshape(1)}
        for key, value in model.p.items():
            out["w." + key] = value.detach()
            if not key.endswith(".fixed"):
                out["g." + key] = torch.zeros_like(value) if value.grad is None else value.grad
        save_file({k: v.contiguous() for k, v in out.items()}, os.path.join(HERE, name + ".safetensors"),
                  metadata={"fields": json.dumps(fields)})
        print(f"{name}: loss {loss.item():.6f}")


if __name__ == "__main__":
    main()
