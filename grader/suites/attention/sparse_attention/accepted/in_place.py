"""Windows diagonal by diagonal, strides and blocks into one output tensor that is filled in place."""

import torch


def window_mask(length, before, after):
    mask = torch.zeros(length, length, dtype=torch.bool)
    for i in range(length):
        mask[i, max(0, i - before) : i + after + 1] = True
    return mask


def strided_mask(length, stride, causal=False):
    mask = torch.zeros(length, length, dtype=torch.bool)
    for r in range(min(stride, length)):
        mask[r::stride, r::stride] = True
    return mask.tril_() if causal else mask


def block_mask(layout, size, length):
    mask = torch.zeros(length, length, dtype=torch.bool)
    for a, b in layout.nonzero().tolist():
        mask[a * size : (a + 1) * size, b * size : (b + 1) * size] = True
    return mask


def bigbird_layout(blocks, near, common):
    layout = window_mask(blocks, near, near)
    layout[:common, :] = True
    layout[:, :common] = True
    return layout


def _float(x):
    return x if x.dtype == torch.float64 else x.to(torch.float32)


def _normalise(S, hidden):
    S = S.masked_fill(hidden, float("-inf"))
    top = S.detach().amax(dim=-1, keepdim=True).clamp_(min=torch.finfo(S.dtype).min)
    E = S.sub(top).exp()
    return E / E.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(S.dtype).tiny)


def window_attention(query, key, value, before, after, mask=None):
    T = query.shape[2]
    Q, K, V = _float(query), _float(key), _float(value)
    offsets = range(-min(before, T - 1), min(after, T - 1) + 1)
    S = Q.new_zeros(*Q.shape[:3], len(offsets))
    hidden = torch.ones(Q.shape[0], 1, T, len(offsets), dtype=torch.bool, device=Q.device)
    for n, offset in enumerate(offsets):
        i, j = slice(max(0, -offset), T - max(0, offset)), slice(max(0, offset), T - max(0, -offset))
        S[:, :, i, n] = (Q[:, :, i] * K[:, :, j]).sum(dim=-1)
        hidden[:, 0, i, n] = False if mask is None else mask[:, j].logical_not()
    P = _normalise(S / Q.shape[-1] ** 0.5, hidden)
    O = torch.zeros(V.shape, dtype=V.dtype, device=V.device)
    for n, offset in enumerate(offsets):
        i, j = slice(max(0, -offset), T - max(0, offset)), slice(max(0, offset), T - max(0, -offset))
        O[:, :, i] += P[:, :, i, n, None] * V[:, :, j]
    return O.to(value.dtype)


def strided_attention(query, key, value, stride, causal=False, mask=None):
    B, H, T, _ = query.shape
    N = (T + stride - 1) // stride

    def columns(x):
        full = x.new_zeros(B, H, N * stride, x.shape[-1])
        full[:, :, :T] = x
        return full.view(B, H, N, stride, -1).permute(0, 1, 3, 2, 4)

    Q, K, V = columns(_float(query)), columns(_float(key)), columns(_float(value))
    hidden = torch.ones(B, N * stride, dtype=torch.bool, device=query.device)
    hidden[:, :T] = False if mask is None else ~mask
    hidden = hidden.view(B, N, stride).transpose(1, 2)[:, None, :, None]
    if causal:
        hidden = hidden | torch.ones(N, N, dtype=torch.bool, device=query.device).triu_(1)
    O = _normalise((Q @ K.transpose(3, 4)).div_(Q.shape[-1] ** 0.5), hidden) @ V
    return O.permute(0, 1, 3, 2, 4).reshape(B, H, N * stride, -1)[:, :, :T].to(value.dtype)


def block_attention(query, key, value, layout, size, mask=None):
    B, _, T, D = query.shape
    output = torch.zeros(value.shape, dtype=value.dtype, device=value.device)
    position = torch.arange(T, device=query.device)
    for a, row in enumerate(layout):
        some = position[row[position // size]]
        if len(some) == 0:
            continue
        here = slice(a * size, (a + 1) * size)
        S = _float(query[:, :, here]) @ _float(key[:, :, some]).transpose(2, 3) / D**0.5
        hidden = torch.zeros(B, len(some), dtype=torch.bool, device=S.device) if mask is None else ~mask[:, some]
        output[:, :, here] = (_normalise(S, hidden[:, None, None]) @ _float(value[:, :, some])).to(value.dtype)
    return output
