"""Plain steps with many names, as translated from arrays; Gram-Schmidt twice is enough."""

from __future__ import annotations

import torch


def at_least_float32(x):
    if x.dtype == torch.float16 or x.dtype == torch.bfloat16:
        return x.to(torch.float32)
    return x


def orthogonal_directions(gaussian):
    number, size = gaussian.shape
    directions = torch.zeros(number, size, dtype=gaussian.dtype)
    for i in range(number):
        start = (i // size) * size
        row = gaussian[i].clone()
        for _ in range(2):
            basis = directions[start:i]
            row = row - torch.matmul(torch.matmul(row, basis.T), basis)
        directions[i] = row / torch.sqrt(torch.sum(row * row))
    lengths = torch.sqrt(torch.sum(gaussian * gaussian, dim=1))
    return directions * lengths.reshape(number, 1)


def log_features(x, directions):
    x = at_least_float32(x)
    w = directions.to(x.dtype)
    m = w.shape[0]
    projections = torch.matmul(x, w.T)
    squared_norms = torch.sum(x * x, dim=-1, keepdim=True)
    root = torch.sqrt(torch.tensor(float(m), dtype=x.dtype))
    return projections - squared_norms / 2.0 - torch.log(root)


def trigonometric_features(x, directions):
    x = at_least_float32(x)
    w = directions.to(x.dtype)
    m = w.shape[0]
    projections = torch.matmul(x, w.T)
    factor = torch.exp(torch.sum(x * x, dim=-1, keepdim=True) / 2.0) / m**0.5
    return torch.concatenate((factor * torch.sin(projections), factor * torch.cos(projections)), dim=-1)


def kernel_variances(x, y, m):
    x = at_least_float32(x)
    y = at_least_float32(y)
    difference = torch.sum(torch.square(x - y), dim=-1)
    total = torch.sum(torch.square(x + y), dim=-1)
    product = torch.sum(x * y, dim=-1)
    trigonometric = torch.exp(total - 2.0 * product) * torch.square(torch.expm1(-difference)) / (2.0 * m)
    positive = -torch.exp(total + 2.0 * product) * torch.expm1(-total) / m
    return (trigonometric, positive)


def stabilise(log_q, log_k):
    per_feature = torch.max(log_k.detach(), dim=-2, keepdim=True).values
    raised = log_q + per_feature
    per_query = torch.max(raised.detach(), dim=-1, keepdim=True).values
    return torch.exp(raised - per_query), torch.exp(log_k - per_feature)


def favor_attention(q, k, v, directions):
    result_type = v.dtype
    q, k, v = at_least_float32(q), at_least_float32(k), at_least_float32(v)
    fourth_root = q.shape[-1] ** 0.25
    queries, keys = stabilise(log_features(q / fourth_root, directions), log_features(k / fourth_root, directions))
    ones = torch.ones(*v.shape[:-1], 1, dtype=v.dtype)
    numerator = torch.matmul(queries, torch.matmul(keys.transpose(2, 3), v))
    denominator = torch.matmul(queries, torch.matmul(keys.transpose(2, 3), ones))
    return (numerator / denominator).to(result_type)


def causal_favor_attention(q, k, v, directions, chunk_size=64):
    result_type = v.dtype
    q, k, v = at_least_float32(q), at_least_float32(k), at_least_float32(v)
    fourth_root = q.shape[-1] ** 0.25
    log_q = log_features(q / fourth_root, directions)
    log_k = log_features(k / fourth_root, directions)
    length = q.shape[2]
    results = []
    carried = None  # (maxima, sum of features times values, sum of features)
    start = 0
    while start < length:
        stop = min(start + chunk_size, length)
        chunk_q, chunk_k, chunk_v = log_q[:, :, start:stop], log_k[:, :, start:stop], v[:, :, start:stop]
        maxima = torch.max(chunk_k.detach(), dim=2).values
        if carried is not None:
            maxima = torch.maximum(maxima, carried[0])
        features_k = torch.exp(chunk_k - maxima[:, :, None, :])
        raised = chunk_q + maxima[:, :, None, :]
        features_q = torch.exp(raised - torch.max(raised.detach(), dim=3, keepdim=True).values)
        lower = torch.tril(torch.ones(stop - start, stop - start, dtype=v.dtype))
        weights = torch.matmul(features_q, features_k.transpose(2, 3)) * lower
        numerator = torch.matmul(weights, chunk_v)
        denominator = torch.sum(weights, dim=3)
        new_S = torch.matmul(features_k.transpose(2, 3), chunk_v)
        new_z = torch.sum(features_k, dim=2)
        if carried is not None:
            decay = torch.exp(carried[0] - maxima)
            S = carried[1] * decay[:, :, :, None]
            z = carried[2] * decay
            numerator = numerator + torch.matmul(features_q, S)
            denominator = denominator + torch.sum(features_q * z[:, :, None, :], dim=3)
            new_S = new_S + S
            new_z = new_z + z
        results.append(numerator / denominator[:, :, :, None])
        carried = (maxima, new_S, new_z)
        start = stop
    return torch.concatenate(results, dim=2).to(result_type)
