"""Random tensors for suites: seeded by `--seed` and the test's id, so that every run repeats."""

from __future__ import annotations

from typing import Any


class Draw:
    """Draws from one generator; `dtype` defaults to float32."""

    def __init__(self, seed: int) -> None:
        import torch

        self.torch = torch
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, dtype: Any = None) -> Any:
        """Standard normal, drawn in float64 so that every dtype sees the same numbers."""
        drawn = self.torch.randn(shape, generator=self.generator, dtype=self.torch.float64)
        return drawn.to(dtype or self.torch.float32)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0, dtype: Any = None) -> Any:
        drawn = self.torch.rand(shape, generator=self.generator, dtype=self.torch.float64)
        return (low + (high - low) * drawn).to(dtype or self.torch.float32)

    def integers(self, low: int, high: int, *shape: int) -> Any:
        """Integers in [low, high), int64."""
        return self.torch.randint(low, high, shape, generator=self.generator)

    def permutation(self, n: int) -> Any:
        return self.torch.randperm(n, generator=self.generator)
