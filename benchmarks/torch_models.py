"""The reference models as modules of torch, which hold the parameters of ours.

They are made of torch's own modules wherever there is one, because curvlinops and BackPACK know only these.  Outputs are
`[rows, classes]`, with one row for every place of every example.
"""

import jax
import torch
from torch import nn
from torch.nn import functional as F

from .reference_models import Model


def module(model: Model, params) -> nn.Module:
    """The module of a reference model in evaluation; the leaves of `params` become its parameters."""
    kind = {"nanoGPT": GPT, "ResNet": ResNet, "ViT": VisionTransformer, "LSTM": LSTM}[model.kind]
    return kind(model, jax.tree.map(nn.Parameter, params)).eval()


def linear(p) -> nn.Linear:
    made = nn.Linear(*reversed(p["w"].shape), bias="b" in p, device="meta")
    made.weight, made.bias = p["w"], p.get("b")
    return made


def layer_norm(p, eps: float = 1e-5) -> nn.LayerNorm:
    made = nn.LayerNorm(len(p["gain"]), eps, device="meta")
    made.weight, made.bias = p["gain"], p["shift"]
    return made


class Block(nn.Module):
    """A transformer block."""

    def __init__(self, p, heads: int, causal: bool, eps: float):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.ln1, self.ln2 = layer_norm(p["ln1"], eps), layer_norm(p["ln2"], eps)
        self.qkv, self.out, self.up, self.down = (linear(p[name]) for name in ("qkv", "out", "up", "down"))

    def forward(self, x):
        batch, length, width = x.shape
        split = self.qkv(self.ln1(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5
        if self.causal:
            scores = scores.masked_fill(~torch.ones(length, length, dtype=torch.bool, device=x.device).tril(), -torch.inf)
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape))
        return x + self.down(F.gelu(self.up(self.ln2(x))))


class GPT(nn.Module):
    def __init__(self, model: Model, p):
        super().__init__()
        self.words, self.positions = p["words"], p["positions"]
        self.blocks = nn.Sequential(*(Block(b, model.sizes.heads, True, 1e-5) for b in p["blocks"]))
        self.last = layer_norm(p["last"])

    def forward(self, ids):
        x = F.embedding(ids, self.words) + self.positions[: ids.shape[1]]
        return F.linear(self.last(self.blocks(x)), self.words).flatten(0, 1)


class VisionTransformer(nn.Module):
    def __init__(self, model: Model, p):
        super().__init__()
        self.patch, self.token, self.positions = model.sizes.patch, p["class"], p["positions"]
        self.blocks = nn.Sequential(*(Block(b, model.sizes.heads, False, 1e-6) for b in p["blocks"]))
        self.patches, self.last, self.head = linear(p["patches"]), layer_norm(p["last"], 1e-6), linear(p["head"])

    def forward(self, x):
        patches = F.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), 1, -1), self.patches(patches)], 1) + self.positions
        return self.head(self.last(self.blocks(x))[:, 0])


class LSTM(nn.Module):
    def __init__(self, model: Model, p):
        super().__init__()
        self.words, self.head, self.bias = p["words"], p["head"]["words"], p["head"]["b"]
        self.inputs = nn.ModuleList(linear(q["input"]) for q in p["layers"])
        self.states = nn.ModuleList(linear(q["state"]) for q in p["layers"])

    def forward(self, ids):
        x = F.embedding(ids, self.words)
        for by_input, by_state in zip(self.inputs, self.states, strict=True):
            h = c = torch.zeros_like(x[:, 0])
            found = []
            for gates in by_input(x).unbind(1):
                i, f, o, g = (gates + by_state(h)).chunk(4, -1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                found.append(h)
            x = torch.stack(found, 1)
        return F.linear(x, self.head, self.bias).flatten(0, 1)


def conv(p, stride: int) -> nn.Conv2d:
    o, i, k, _ = p["w"].shape
    made = nn.Conv2d(i, o, k, stride, k // 2, bias=False, device="meta")
    made.weight = p["w"]
    return made


class ResNet(nn.Module):
    def __init__(self, model: Model, p):
        super().__init__()
        running = iter(model.running)

        def norm(q):
            mean, var = (torch.tensor(jax.device_get(a), device=q["gain"].device) for a in next(running))
            made = nn.BatchNorm2d(len(mean), device="meta")
            made.weight, made.bias, made.running_mean, made.running_var = q["gain"], q["shift"], mean, var
            made.num_batches_tracked = torch.zeros((), dtype=torch.long)
            return made

        stem = [conv(p["conv"], 2), norm(p["norm"]), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        blocks = [
            Residual(q, 2 if stage and not number else 1, norm)
            for stage, own in enumerate(p["stages"])
            for number, q in enumerate(own)
        ]
        self.body = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear(p["head"]))

    def forward(self, x):
        return self.body(x)


class Residual(nn.Module):
    def __init__(self, p, stride: int, norm):
        super().__init__()
        parts: list[nn.Module] = []
        for i, (kernel, scale) in enumerate(zip(p["convs"], p["norms"], strict=True)):
            parts += [conv(kernel, stride if i == len(p["convs"]) - 2 else 1), norm(scale), nn.ReLU()]
        self.body = nn.Sequential(*parts[:-1])
        self.shortcut = nn.Identity()
        if "shortcut" in p:
            self.shortcut = nn.Sequential(conv(p["shortcut"], stride), norm(p["shortcut_norm"]))
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.body(x) + self.shortcut(x))
