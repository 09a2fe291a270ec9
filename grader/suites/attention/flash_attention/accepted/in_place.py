"""Outputs, maxima and sums in whole buffers that are updated in place, keys in the outer loop as in the first paper."""

import torch


def _float(x):
    return x if x.dtype == torch.float64 else x.to(torch.float32)


def combine(first, second):
    m1, l1 = first
    m2, l2 = second
    bigger = m1 > m2
    m, low = torch.where(bigger, m1, m2), torch.where(bigger, m2, m1)
    factor = torch.where(low == -torch.inf, 0.0, low - m).exp()
    factor = torch.where(low == -torch.inf, 0.0, factor)
    return m, torch.where(bigger, l1 + l2 * factor, l2 + l1 * factor)


def online_softmax(logits, tile):
    T = logits.shape[-1]
    N = -(-T // tile)
    ms = logits.new_empty(*logits.shape[:-1], N)
    ls = logits.new_empty(*logits.shape[:-1], N)
    m = logits.new_full(logits.shape[:-1], -torch.inf)
    l = logits.new_zeros(logits.shape[:-1])
    for n in range(N):
        x = logits[..., n * tile : (n + 1) * tile]
        new = torch.maximum(m, x.amax(-1))
        finite = new.clamp(min=torch.finfo(new.dtype).min)
        l.mul_((m - finite).exp()).add_((x - finite[..., None]).exp().sum(-1))
        m.copy_(new)
        ms[..., n], ls[..., n] = m, l
    return ms, ls


def tile_logits(query, key, rows, columns, mask=None, causal=False, scale=None):
    q, k = _float(query[:, :, rows]), _float(key[:, :, columns])
    S = torch.matmul(q, k.transpose(2, 3))
    S *= query.shape[3] ** -0.5 if scale is None else scale
    if causal:
        shift = rows.start - columns.start + key.shape[2] - query.shape[2]
        above = torch.ones(S.shape[2:], dtype=torch.bool, device=S.device).triu_(shift + 1)
        S.masked_fill_(above, -torch.inf)
    if mask is not None:
        S.masked_fill_(mask[:, None, None, columns].logical_not(), -torch.inf)
    return S


def _tiles(length, size):
    return [slice(i, min(i + size, length)) for i in range(0, length, size)]


def _skip(causal, rows, columns, query, key):
    return causal and rows.stop + key.shape[2] - query.shape[2] <= columns.start


def flash_forward(query, key, value, mask=None, causal=False, scale=None, tile_q=64, tile_k=64):
    B, H, Tq, _ = query.shape
    kind = torch.float64 if query.dtype == torch.float64 else torch.float32
    O = torch.zeros(B, H, Tq, value.shape[3], dtype=kind, device=query.device)
    m = torch.full((B, H, Tq, 1), -torch.inf, dtype=kind, device=query.device)
    l = torch.zeros_like(m)
    low = torch.finfo(kind).min
    for columns in _tiles(key.shape[2], tile_k):
        V = _float(value[:, :, columns])
        for rows in _tiles(Tq, tile_q):
            if _skip(causal, rows, columns, query, key):
                continue
            S = tile_logits(query, key, rows, columns, mask, causal, scale)
            top = torch.maximum(m[:, :, rows], S.amax(3, keepdim=True))
            shift = top.clamp(min=low)
            S.sub_(shift).exp_()
            factor = (m[:, :, rows] - shift).exp_()
            l[:, :, rows] = l[:, :, rows].mul(factor).add_(S.sum(3, keepdim=True))
            O[:, :, rows] = O[:, :, rows].mul(factor).add_(S @ V)
            m[:, :, rows] = top
    empty = l == 0
    O.div_(l.masked_fill(empty, 1.0))
    return O.to(value.dtype), (m + l.log_()).squeeze(3)


def flash_backward(upstream, query, key, value, output, lse, mask=None, causal=False, scale=None, tile_q=64, tile_k=64):
    factor = query.shape[3] ** -0.5 if scale is None else scale
    kind = torch.float64 if query.dtype == torch.float64 else torch.float32
    dQ, dK, dV = (torch.zeros(x.shape, dtype=kind, device=x.device) for x in (query, key, value))
    for rows in _tiles(query.shape[2], tile_q):
        dO, Q = _float(upstream[:, :, rows]), _float(query[:, :, rows])
        delta = (dO * _float(output[:, :, rows])).sum(3, keepdim=True)
        L = lse[:, :, rows].unsqueeze(3)
        L = torch.where(torch.isinf(L), torch.inf, L)
        for columns in _tiles(key.shape[2], tile_k):
            if _skip(causal, rows, columns, query, key):
                break
            K, V = _float(key[:, :, columns]), _float(value[:, :, columns])
            P = tile_logits(query, key, rows, columns, mask, causal, scale).sub_(L).exp_()
            dV[:, :, columns] += P.transpose(2, 3) @ dO
            dS = (dO @ V.transpose(2, 3)).sub_(delta).mul_(P).mul_(factor)
            dQ[:, :, rows] += dS @ K
            dK[:, :, columns] += dS.transpose(2, 3) @ Q
    return dQ.to(query.dtype), dK.to(key.dtype), dV.to(value.dtype)


class FlashAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, mask, causal, scale, tile_q, tile_k):
        output, lse = flash_forward(query, key, value, mask, causal, scale, tile_q, tile_k)
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.mask, ctx.causal, ctx.scale, ctx.sizes = mask, causal, scale, (tile_q, tile_k)
        return output

    @staticmethod
    def backward(ctx, upstream):
        q, k, v, o, lse = ctx.saved_tensors
        dQ, dK, dV = flash_backward(upstream, q, k, v, o, lse, ctx.mask, ctx.causal, ctx.scale, *ctx.sizes)
        return dQ, dK, dV, None, None, None, None, None


def flash_attention(query, key, value, mask=None, causal=False, scale=None, tile_q=64, tile_k=64):
    return FlashAttention.apply(query, key, value, mask, causal, scale, tile_q, tile_k)
