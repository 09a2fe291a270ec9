"""transformers/mixture_of_experts' solution against Transformers' router, layer and loss, and a dense loop."""

import pytest
import torch
from transformers import DeepseekV3Config, MixtralConfig
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE
from transformers.models.mixtral.modeling_mixtral import MixtralTopKRouter, load_balancing_loss_func

T, E, K, D, H, S = 23, 8, 3, 6, 5, 2


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def normal(generator):
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def close(got, expected, tolerance=1e-12):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def layer_of(mine, normal, **settings):
    layer = mine.MixtureOfExperts(D, H, E, K, **settings).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(normal(*p.shape))
        layer.bias.copy_(0.3 * normal(E))
    return layer


def deepseek_layer(layer):
    """Transformers' DeepSeek-V3 layer with the same parameters; its scores are sigmoids."""
    config = DeepseekV3Config(
        hidden_size=D, moe_intermediate_size=H, n_routed_experts=E, num_experts_per_tok=K, n_shared_experts=S,
        n_group=1, topk_group=1, norm_topk_prob=True, routed_scaling_factor=1.0, num_hidden_layers=1,
        num_attention_heads=2, vocab_size=10,
    )  # fmt: skip
    theirs = DeepseekV3MoE(config).double()
    with torch.no_grad():
        theirs.gate.weight.copy_(layer.router.weight)
        theirs.gate.e_score_correction_bias = layer.bias.clone()
        for i, expert in enumerate(layer.experts):
            if isinstance(theirs.experts, torch.nn.ModuleList):
                copied(theirs.experts[i], expert)
            else:
                theirs.experts.gate_up_proj[i].copy_(torch.cat([expert.gate.weight, expert.up.weight]))
                theirs.experts.down_proj[i].copy_(expert.down.weight)
        copied(theirs.shared_experts, layer.shared)
    return theirs


def copied(theirs, expert):
    theirs.gate_proj.weight.copy_(expert.gate.weight)
    theirs.up_proj.weight.copy_(expert.up.weight)
    theirs.down_proj.weight.copy_(expert.down.weight)


def test_deepseek_layer(mine, normal, monkeypatch):
    """DeepSeek's sigmoid s enters `route` as the logits log s: then exp(logits) / sum is s / sum, whichever are selected.

    Selection is by s + b there, and by s / sum(s) + b here: the bias is scaled token by token to match.
    """
    layer = layer_of(mine, normal, num_shared=S)
    theirs = deepseek_layer(layer)
    x = normal(2, T, D)
    flat = x.flatten(0, 1)
    s = (flat @ layer.router.weight.T).sigmoid()  # (T, E)
    rows = [
        mine.route(row.log()[None], K, layer.bias / row.sum())  # one token at a time: each has a bias of its own
        for row in s
    ]
    weights, experts = (torch.cat(parts) for parts in zip(*rows, strict=True))
    y = mine.mixture(flat, weights, experts, layer.experts) + layer.shared(flat)
    close(y.view(x.shape), theirs(x), 1e-6)  # their router computes in float32
    assert (weights.sum(dim=-1) - 1).abs().max() < 1e-12


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("padded", [False, True])
def test_mixtral_loss(mine, normal, k, padded):
    """Theirs is k times ours, and pools the layers; so one layer at a time."""
    logits = normal(2, T, E)
    mask = torch.arange(T) % 4 != 1 if padded else None
    experts = torch.stack([mine.route(z, k)[1] for z in logits])
    expected = [load_balancing_loss_func((z,), E, k, None if mask is None else mask[None].long()) for z in logits]
    close(k * mine.load_balance_loss(logits, experts, mask), torch.stack(expected).mean().double(), 1e-6)


def test_mixtral_router(mine, normal):
    config = MixtralConfig(hidden_size=D, num_local_experts=E, num_experts_per_tok=K, intermediate_size=H)
    router = MixtralTopKRouter(config).double()
    x = normal(T, D)
    with torch.no_grad():
        router.weight.copy_(normal(E, D))
    _, weights, experts = router(x)
    got = mine.route(x @ router.weight.T, K)
    close(got[0], weights.double(), 1e-6)
    assert torch.equal(got[1], experts)


@pytest.mark.parametrize("shared", [0, S])
@pytest.mark.parametrize("renormalise", [True, False])
def test_dense_loop(mine, normal, shared, renormalise):
    layer = layer_of(mine, normal, num_shared=shared, renormalise=renormalise)
    x = normal(2, T, D).requires_grad_()

    def explicit():
        outputs = []
        for token in x.flatten(0, 1):
            p = (layer.router.weight @ token).softmax(dim=0)
            chosen = (p + layer.bias).topk(K).indices.tolist()
            total = p[chosen].sum() if renormalise else 1
            y = sum(p[i] / total * layer.experts[i](token) for i in chosen)
            outputs.append(y + layer.shared(token) if shared else y)
        return torch.stack(outputs).view(x.shape)

    got, expected = layer(x)[0], explicit()
    close(got, expected)
    leaves = [x, *layer.parameters()]
    close(
        torch.autograd.grad(got.sin().sum(), leaves, materialize_grads=True),
        torch.autograd.grad(expected.sin().sum(), leaves, materialize_grads=True),
        1e-10,
    )


def test_bias_evens_out(mine, normal):
    """The update rule brings a lopsided router close to an even load."""
    logits, bias = normal(2000, E) + torch.linspace(0, 2, E, dtype=torch.float64), torch.zeros(E, dtype=torch.float64)

    def load():
        return mine.dispatch(mine.route(logits, K, bias)[1], E)[1]

    before = load().max() / load().double().mean()
    for _ in range(400):
        bias = mine.update_bias(bias, load())
    after = load().max() / load().double().mean()
    assert before > 1.5
    assert after < 1.05
