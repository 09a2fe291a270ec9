"""Einsums, and tiles of keys as partial results that are merged by their log-sum-exps (normalised at every step)."""

import math

import torch

NEVER = -math.inf


def _up(x):
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _safe(m):
    return torch.where(m == NEVER, 0.0, m)


def combine(first, second):
    m = torch.stack([first[0], second[0]])
    l = torch.stack([first[1], second[1]])
    top = m.amax(0)
    return top, (l * torch.exp(m - _safe(top))).sum(0)


def online_softmax(logits, tile):
    ms, ls = [], []
    for start in range(0, logits.shape[-1], tile):
        x = logits[..., start : start + tile]
        m = x.amax(-1)
        if ms:
            m = torch.maximum(m, ms[-1])
        l = torch.exp(x - _safe(m).unsqueeze(-1)).sum(-1)
        if ms:
            l = l + ls[-1] * torch.exp(ms[-1] - _safe(m))
        ms.append(m)
        ls.append(l)
    return torch.stack(ms, -1), torch.stack(ls, -1)


def tile_logits(query, key, rows, columns, mask=None, causal=False, scale=None):
    s = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    x = torch.einsum("bhid,bhjd->bhij", _up(query[:, :, rows]), _up(key[:, :, columns])) * s
    if mask is not None:
        x = torch.where(mask[:, columns][:, None, None, :], x, NEVER)
    if causal:
        i = torch.arange(query.shape[2], device=x.device)[rows]
        j = torch.arange(key.shape[2], device=x.device)[columns]
        seen = i[:, None] + (key.shape[2] - query.shape[2]) >= j[None, :]
        x = torch.where(seen, x, NEVER)
    return x


def flash_forward(query, key, value, mask=None, causal=False, scale=None, tile_q=64, tile_k=64):
    Tq, Tk = query.shape[2], key.shape[2]
    outs, lses = [], []
    for a in range(0, Tq, tile_q):
        rows = slice(a, min(a + tile_q, Tq))
        out = lse = None
        for b in range(0, Tk, tile_k):
            columns = slice(b, min(b + tile_k, Tk))
            if causal and b > rows.stop - 1 + Tk - Tq and out is not None:
                break
            x = tile_logits(query, key, rows, columns, mask, causal, scale)
            part = torch.logsumexp(x, -1)
            p = torch.exp(x - _safe(part)[..., None])
            mean = torch.einsum("bhij,bhjm->bhim", p, _up(value[:, :, columns]))
            if out is None:
                out, lse = mean, part
            else:
                total = torch.logaddexp(lse, part)
                weight = torch.exp(lse - _safe(total))[..., None]
                out = out * weight + mean * torch.exp(part - _safe(total))[..., None]
                lse = total
        outs.append(out.to(value.dtype))
        lses.append(lse)
    return torch.cat(outs, 2), torch.cat(lses, 2)


def flash_backward(upstream, query, key, value, output, lse, mask=None, causal=False, scale=None, tile_q=64, tile_k=64):
    Tq, Tk = query.shape[2], key.shape[2]
    s = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    dq = []
    dk, dv = {}, {}
    for a in range(0, Tq, tile_q):
        rows = slice(a, min(a + tile_q, Tq))
        q, g = _up(query[:, :, rows]), _up(upstream[:, :, rows])
        delta = torch.einsum("bhim,bhim->bhi", g, _up(output[:, :, rows]))
        total = torch.zeros_like(q)
        for b in range(0, Tk, tile_k):
            columns = slice(b, min(b + tile_k, Tk))
            if causal and b > rows.stop - 1 + Tk - Tq:
                break
            k, v = _up(key[:, :, columns]), _up(value[:, :, columns])
            p = torch.exp(
                tile_logits(query, key, rows, columns, mask, causal, scale) - _safe(lse[:, :, rows])[..., None]
            )
            ds = p * (torch.einsum("bhim,bhjm->bhij", g, v) - delta[..., None])
            total = total + s * torch.einsum("bhij,bhjd->bhid", ds, k)
            dk[b] = dk.get(b, 0) + s * torch.einsum("bhij,bhid->bhjd", ds, q)
            dv[b] = dv.get(b, 0) + torch.einsum("bhij,bhim->bhjm", p, g)
        dq.append(total)
    for b in range(0, Tk, tile_k):
        if b not in dk:
            dk[b] = torch.zeros_like(_up(key[:, :, b : b + tile_k]))
            dv[b] = torch.zeros_like(_up(value[:, :, b : b + tile_k]))
    order = range(0, Tk, tile_k)
    dk, dv = torch.cat([dk[b] for b in order], 2), torch.cat([dv[b] for b in order], 2)
    return torch.cat(dq, 2).to(query.dtype), dk.to(key.dtype), dv.to(value.dtype)


class FlashAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, *settings):
        output, lse = flash_forward(query, key, value, *settings)
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.settings = settings
        return output

    @staticmethod
    def backward(ctx, upstream):
        grads = flash_backward(upstream, *ctx.saved_tensors, *ctx.settings)
        return (*grads, *[None] * len(ctx.settings))


def flash_attention(query, key, value, mask=None, causal=False, scale=None, tile_q=64, tile_k=64):
    return FlashAttention.apply(query, key, value, mask, causal, scale, tile_q, tile_k)
