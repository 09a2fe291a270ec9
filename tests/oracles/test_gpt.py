"""transformers/gpt's solution against torch's own transformer with copied weights, attention, loss and sort-free sampling."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

B, T, E, H, L, V, CONTEXT = 2, 9, 12, 3, 2, 17, 14


@pytest.fixture
def model(mine):
    torch.manual_seed(0)
    model = mine.GPT(V, CONTEXT, E, H, L).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


@pytest.fixture
def tokens():
    return torch.randint(V, (B, T), generator=torch.Generator().manual_seed(1))


def close(got, expected, tolerance=1e-11):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def theirs(model):
    """torch's pre-norm encoder; under a causal mask it is this decoder."""
    layer = nn.TransformerEncoderLayer(
        E, H, 4 * E, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    encoder = nn.TransformerEncoder(layer, L, norm=nn.LayerNorm(E, dtype=torch.float64), enable_nested_tensor=False)
    names = {
        "attention.project.weight": "self_attn.in_proj_weight",
        "attention.project.bias": "self_attn.in_proj_bias",
        "attention.output": "self_attn.out_proj",
        "attention_norm": "norm1",
        "mlp_norm": "norm2",
        "mlp.expand": "linear1",
        "mlp.output": "linear2",
    }
    state = {}
    for path, p in model.state_dict().items():
        if path.startswith("blocks."):
            number, inner = path.removeprefix("blocks.").split(".", 1)
            old = next(name for name in names if inner.startswith(name) and inner[len(name) :][:1] in ("", "."))
            state[f"layers.{number}.{names[old]}{inner[len(old) :]}"] = p
        elif path.startswith("norm."):
            state[path] = p
    encoder.load_state_dict(state)
    return encoder


def full(model, encoder, tokens):
    length = tokens.shape[1]
    x = F.embedding(tokens, model.token.weight) + model.position.weight[:length]
    mask = nn.Transformer.generate_square_subsequent_mask(length, dtype=torch.float64)
    return encoder(x, mask=mask, is_causal=True) @ model.token.weight.T


def test_model_and_gradients(mine, model, tokens):
    encoder = theirs(model)
    logits, _ = model(tokens)
    expected = full(model, encoder, tokens)
    close(logits, expected)
    loss = mine.next_token_loss(logits, tokens)
    other = F.cross_entropy(expected[:, :-1].reshape(-1, V), tokens[:, 1:].reshape(-1))
    close(loss, other)
    got = torch.autograd.grad(loss, model.blocks[0].attention.project.weight)
    close(got, torch.autograd.grad(other, encoder.layers[0].self_attn.in_proj_weight))


@pytest.mark.parametrize("lengths", [[4, 5], [1] * T, [3, 2, 4]])
def test_cache(model, tokens, lengths):
    caches, logits = None, []
    for piece in tokens.split(lengths, dim=1):
        y, caches = model(piece, caches)
        logits.append(y)
    close(torch.cat(logits, dim=1), full(model, theirs(model), tokens))


def test_greedy_generation(mine, model, tokens):
    encoder, expected = theirs(model), tokens[:, :4]
    for _ in range(CONTEXT - 3):
        if expected.shape[1] <= CONTEXT:
            following = full(model, encoder, expected)[:, -1].argmax(dim=-1, keepdim=True)
            expected = torch.cat([expected, following], dim=1)
    assert torch.equal(mine.generate(model, tokens[:, :4], CONTEXT - 3, temperature=0), expected)


def test_layer_norm_and_attention(mine):
    generator = torch.Generator().manual_seed(2)
    x, w, b = (torch.randn(*shape, E, generator=generator, dtype=torch.float64) for shape in ((B, T), (), ()))
    norm = mine.LayerNorm(E).double()
    norm.load_state_dict({"weight": w, "bias": b})
    close(norm(x), F.layer_norm(x, (E,), w, b, 1e-5))
    q, k, v = (torch.randn(B, H, T, 5, generator=generator, dtype=torch.float64) for _ in range(3))
    close(mine.attention(q, k, v), F.scaled_dot_product_attention(q, k, v, is_causal=True))
    close(mine.attention(q[:, :, -3:], k, v), F.scaled_dot_product_attention(q, k, v, is_causal=True)[:, :, -3:])


def test_loss(mine, tokens):
    logits = torch.randn(B, T, V, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    tokens[0, 4:] = -100
    close(mine.next_token_loss(logits, tokens), F.cross_entropy(logits[:, :-1].mT, tokens[:, 1:]))


def test_sampling(mine):
    """Top-k and top-p by trying every subset size, as the definitions read."""
    logits = 2 * torch.randn(5, V, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    for k, p in ((4, None), (None, 0.7), (6, 0.8), (V + 5, 1.0)):
        got = mine.sampling_probabilities(logits, 1.3, k, p)
        for row, mine_row in zip(logits / 1.3, got, strict=True):
            best = torch.topk(row, min(k or V, V)).indices
            share = row[best].softmax(dim=0)
            count = next(
                n for n in range(1, len(best) + 1) if p is None or share[:n].sum() >= p - 1e-12 or n == len(best)
            )
            if p is None:
                count = len(best)
            expected = torch.zeros(V, dtype=torch.float64).index_add(
                0, best[:count], share[:count] / share[:count].sum()
            )
            close(mine_row, expected)


def test_draws_follow_the_probabilities(mine):
    class Constant(nn.Module):
        def forward(self, tokens, caches=None):
            return logits.expand(*tokens.shape, -1), []

    torch.manual_seed(5)
    logits = torch.tensor([0.3, -1.0, 2.0, 1.2, 0.9])
    p = mine.sampling_probabilities(logits, 0.8, 4, 0.9)
    n = 20000
    drawn = mine.generate(Constant(), torch.zeros(n, 1, dtype=torch.long), 1, 0.8, 4, 0.9)[:, 1]
    counts = torch.bincount(drawn, minlength=5)
    assert (counts[p == 0] == 0).all()
    statistic = ((counts - n * p)[p > 0] ** 2 / (n * p)[p > 0]).sum()
    assert statistic < 25  # chi squared with two degrees of freedom exceeds 25 once in 270,000 draws


def test_a_new_model_knows_nothing(mine, tokens):
    torch.manual_seed(6)
    model = mine.GPT(V, CONTEXT, 48, 4, 3)
    assert abs(mine.next_token_loss(model(tokens)[0], tokens) - torch.tensor(float(V)).log()) < 0.1
