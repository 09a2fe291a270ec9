"""What a written rule means: the names, methods and operators that it excludes.

An entry of `forbid=` is one of
  softmax, attention, sorting      a family of this table
  torch.optim, tokenizers, sorted  a module, attribute or builtin by its dotted name
  .sort                            a method of any object
  aten::_softmax*                  torch operators by pattern
"""

from __future__ import annotations

FAMILIES: dict[str, tuple[str, ...]] = {
    "softmax": (
        "torch.softmax",
        "torch.log_softmax",
        "torch.special.softmax",
        "torch.special.log_softmax",
        "torch.nn.functional.softmax",
        "torch.nn.functional.log_softmax",
        "torch.nn.functional.softmin",
        "torch.nn.functional.gumbel_softmax",
        "torch.nn.Softmax",
        "torch.nn.Softmax2d",
        "torch.nn.Softmin",
        "torch.nn.LogSoftmax",
        ".softmax",
        ".log_softmax",
        "aten::*softmax*",
        "attention",
    ),
    "attention": (
        "torch.nn.functional.scaled_dot_product_attention",
        "torch.nn.functional.multi_head_attention_forward",
        "torch.nn.MultiheadAttention",
        "torch.nn.Transformer",
        "torch.nn.TransformerEncoderLayer",
        "torch.nn.TransformerDecoderLayer",
        "aten::*scaled_dot_product*",
        "aten::_native_multi_head_attention",
        "aten::_transformer_encoder_layer_fwd",
    ),
    "sorting": (
        "sorted",
        ".sort",
        ".argsort",
        "heapq",
        "bisect.insort",
        "bisect.insort_left",
        "bisect.insort_right",
        "numpy",
        "torch",
    ),
}


def expand(rules: list[str] | tuple[str, ...]) -> dict[str, str]:
    """Every excluded name with the rule, as the card writes it, that excludes it."""
    found: dict[str, str] = {}

    def add(name: str, rule: str) -> None:
        if name in FAMILIES:
            for member in FAMILIES[name]:
                add(member, rule)
        else:
            found.setdefault(name, rule)

    for rule in rules:
        add(rule, rule)
    return found
