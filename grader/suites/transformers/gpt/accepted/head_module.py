"""As in many repositories: an output module that shares the token table, `view` and `contiguous`, masks of minus infinity."""

import math

import torch
import torch.nn as nn
from torch.nn import functional as F


def wide(*tensors):
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


class LayerNorm(nn.Module):
    def __init__(self, width, eps=1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x):
        kind = x.dtype
        if kind in (torch.float16, torch.bfloat16):
            x = x.float()
        mu = x.mean(-1, keepdim=True)
        var = (x - mu).pow(2).mean(-1, keepdim=True)
        x = (x - mu) * torch.rsqrt(var + self.eps)
        return (x * self.weight.to(x.dtype) + self.bias.to(x.dtype)).to(kind)


def split_heads(x, heads):
    B, T, C = x.size()
    return x.view(B, T, heads, C // heads).permute(0, 2, 1, 3) if x.is_contiguous() else split_heads(x.contiguous(), heads)


def merge_heads(x):
    B, H, T, D = x.size()
    return x.permute(0, 2, 1, 3).contiguous().view(B, T, H * D)


def causal_mask(queries, keys, device=None):
    full = torch.ones(keys, keys, device=device).tril().bool()
    return full[keys - queries :, :]


def attention(query, key, value):
    out = value.dtype
    query, key, value = wide(query, key, value)
    att = (query @ key.transpose(-2, -1)) * (1.0 / math.sqrt(key.size(-1)))
    allowed = causal_mask(query.size(-2), key.size(-2), att.device)
    att = att + torch.zeros_like(att).masked_fill(allowed.logical_not(), float("-inf"))
    att = F.softmax(att, dim=-1)
    return torch.matmul(att, value).to(out)


def extend_cache(cache, key, value):
    if cache is not None:
        past_key, past_value = cache
        key = torch.cat((past_key, key), dim=-2)
        value = torch.cat((past_value, value), dim=-2)
    return key, value


class SelfAttention(nn.Module):
    def __init__(self, width, heads, dropout=0.0):
        super().__init__()
        assert width % heads == 0
        self.n_head, self.n_embd = heads, width
        self.project = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.resid_dropout = nn.Dropout(dropout)

    def forward(self, x, cache=None):
        q, k, v = self.project(x).split(self.n_embd, dim=2)
        q, k, v = split_heads(q, self.n_head), split_heads(k, self.n_head), split_heads(v, self.n_head)
        present = extend_cache(cache, k, v)
        y = merge_heads(attention(q, present[0], present[1]))
        return self.resid_dropout(self.output(y)), present


class MLP(nn.Module):
    def __init__(self, width, dropout=0.0):
        super().__init__()
        self.expand = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.output = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        x = self.expand(x)
        x = self.act(x)
        x = self.output(x)
        return self.dropout(x)


class Block(nn.Module):
    def __init__(self, width, heads, dropout=0.0):
        super().__init__()
        self.attention_norm = LayerNorm(width)
        self.attention = SelfAttention(width, heads, dropout)
        self.mlp_norm = LayerNorm(width)
        self.mlp = MLP(width, dropout)

    def forward(self, x, cache=None):
        y, present = self.attention(self.attention_norm(x), cache=cache)
        x = x + y
        return x + self.mlp(self.mlp_norm(x)), present


def initialise(model):
    def init(m):
        if isinstance(m, nn.Linear):
            torch.nn.init.normal_(m.weight, mean=0.0, std=0.02)
            if m.bias is not None:
                torch.nn.init.zeros_(m.bias)
        elif isinstance(m, nn.Embedding):
            torch.nn.init.normal_(m.weight, mean=0.0, std=0.02)

    model.apply(init)
    for block in model.blocks:
        for layer in (block.attention.output, block.mlp.output):
            torch.nn.init.normal_(layer.weight, mean=0.0, std=0.02 / math.sqrt(2 * len(model.blocks)))


class GPT(nn.Module):
    def __init__(self, vocabulary, context, width, heads, layers, dropout=0.0):
        super().__init__()
        self.context = context
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList([Block(width, heads, dropout) for _ in range(layers)])
        self.norm = LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.token.weight
        initialise(self)

    def forward(self, tokens, caches=None):
        b, t = tokens.size()
        past = caches[0][0].size(-2) if caches is not None else 0
        if past + t > self.context:
            raise ValueError(f"cannot forward sequence of length {past + t}, the context is only {self.context}")
        pos = torch.arange(past, past + t, dtype=torch.long, device=tokens.device).unsqueeze(0)
        x = self.drop(self.token(tokens) + self.position(pos))
        presents = []
        for i, block in enumerate(self.blocks):
            x, present = block(x, None if caches is None else caches[i])
            presents.append(present)
        return self.lm_head(self.norm(x)), presents


def next_token_loss(logits, tokens, ignore_index=-100):
    shift_logits = logits[..., :-1, :].contiguous().to(torch.promote_types(logits.dtype, torch.float32))
    shift_labels = tokens[..., 1:].contiguous()
    if not (shift_labels != ignore_index).any():
        return shift_logits.sum() * 0.0
    return F.cross_entropy(
        shift_logits.view(-1, shift_logits.size(-1)), shift_labels.view(-1), ignore_index=ignore_index
    )


def sampling_probabilities(logits, temperature=1.0, top_k=None, top_p=None):
    (logits,) = wide(logits)
    if temperature == 0:
        probs = torch.zeros_like(logits)
        return probs.scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
    logits = logits / temperature
    # stable, so that of equal logits the lower token comes first
    order = torch.sort(logits, dim=-1, descending=True, stable=True).indices
    if top_k is not None:
        out = torch.ones_like(logits, dtype=torch.bool)
        out.scatter_(-1, order[..., :top_k], False)
        logits = logits.masked_fill(out, float("-inf"))
    probs = F.softmax(logits, dim=-1)
    if top_p is not None:
        sorted_probs = probs.gather(-1, order)
        remove = sorted_probs.cumsum(-1) >= top_p
        remove[..., 1:] = remove[..., :-1].clone()
        remove[..., 0] = False
        probs = probs.masked_fill(remove.scatter(-1, order, remove), 0.0)
        probs = probs / probs.sum(-1, keepdim=True)
    return probs


@torch.no_grad()
def generate(model, tokens, steps, temperature=1.0, top_k=None, top_p=None):
    was_training = model.training
    model.eval()
    caches = None
    idx_next = tokens
    for _ in range(steps):
        logits, caches = model(idx_next, caches)
        probs = sampling_probabilities(logits[:, -1, :], temperature, top_k, top_p)
        idx_next = torch.multinomial(probs, num_samples=1)
        tokens = torch.cat((tokens, idx_next), dim=1)
    if was_training:
        model.train()
    return tokens
