r"""# State-space models: HiPPO, S4 and S4D

A linear system with a hidden state, made discrete, run as a recurrence or as one long convolution: the layer behind S4,
and the matrix that lets its state remember.

$$x'(t) = A\,x(t) + B\,u(t) \qquad y(t) = C\,x(t)$$

with $N$ states, one input and one output. (The term $D\,u$ is a skip connection, and is left out.)

**HiPPO-LegS** (Gu et al., 2020, arXiv:2008.07669, theorem 2; with the sign of S4, arXiv:2111.00396, equation 2). Which
system keeps the best polynomial summary of all its input so far? For $n, k = 0, \dots, N - 1$

$$A_{nk} = -\begin{cases}\sqrt{(2n+1)(2k+1)} & n > k\\ n + 1 & n = k\\ 0 & n < k\end{cases} \qquad B_n = \sqrt{2n+1}
\qquad c'(t) = \tfrac1t\left(A\,c(t) + B\,f(t)\right)$$

Then $c(t)$ are the coefficients of the polynomial of degree below $N$ that is closest to $f$ on $[0, t]$ in mean
square, in the basis $g_n(s) = \sqrt{2n+1}\,P_n(2s/t - 1)$ of Legendre polynomials, orthonormal for the uniform
measure on $[0, t]$:

$$c_n(t) = \frac1t\int_0^t f(s)\,g_n(s)\,ds \qquad f(s) \approx \sum_n c_n(t)\,g_n(s)$$

In the time $\tau = \log t$ the factor $1/t$ is gone and the system an ordinary one, so a step from $t = k$
to $k + 1$ is a zero-order hold over $\log\frac{k+1}{k}$, exact where $f$ is constant in between. For the first sample
alone $c = (f_0, 0, \dots, 0)$. The polynomials follow $(n+1) P_{n+1}(z) = (2n+1)\,z\,P_n(z) - n\,P_{n-1}(z)$ with
$P_0 = 1$ and $P_1 = z$.

**Discretisation** with the step $\Delta$, to $x_k = \bar A x_{k-1} + \bar B u_k$ and $y_k = C x_k$. The bilinear
method (S4, equation 3):

$$\bar A = (I - \tfrac\Delta2 A)^{-1}(I + \tfrac\Delta2 A) \qquad \bar B = (I - \tfrac\Delta2 A)^{-1}\Delta B$$

The zero-order hold, exact where $u$ is constant over each step, for every A, singular ones included:

$$\bar A = e^{\Delta A} \qquad \bar B = \int_0^\Delta e^{sA}\,ds\;B$$

**Convolution** (S4, equations 4 and 5): from $x_{-1} = 0$ the recurrence is $y_k = \sum_{j=0}^k K_j u_{k-j}$ with the
kernel

$$K = (C\bar B,\; C\bar A\bar B,\; \dots,\; C\bar A^{L-1}\bar B)$$

**S4D** (Gu et al., 2022, arXiv:2206.11893, section 3): A is diagonal and complex, in conjugate pairs, of which one
half is kept, M numbers a channel. The other half adds the conjugate, so that twice the real part stands for both.
With the zero-order hold and $B = 1$:

$$\bar A_n = e^{\Delta A_n} \qquad \bar B_n = \frac{e^{\Delta A_n} - 1}{A_n} \qquad
K_l = 2\,\mathrm{Re}\sum_{n=1}^{M} C_n \bar B_n \bar A_n^{\,l}$$

Conventions:

- The output is read after the update: $y_0 = C \bar B u_0$ from a state of zeros.
- Dense systems: `A` is `(N, N)`, `B` and `C` are `(N,)`, and every input `u` is `(..., L)`, the last axis is time, L
  is 1 or more. S4D has H channels, each with its own `A` and `C` (`(H, M)`, complex, the real part of A negative) and
  `step` (`(H,)`, real).
- `hippo_legs` gives float64. Other results have the type of their inputs, and its digits; states of S4D
  are complex.
- Arguments are left as they are, and results are new tensors, which later calls leave alone.
- Nothing cancels or overflows: $\bar B_n$ is right to rounding however small the step ($e^x - 1$ is not, nor is a
  series that ends early), dozens of polynomials are (the sums of their powers are not), and kernels stay finite where
  $\bar A_n$ underflows to 0. Half-precision `u` is convolved in float32 and rounded once.

Cost: a recurrence keeps one state: it takes $O(L)$ operators, each step $O(N^2)$ (S4D's $O(M)$ a channel), and no
tensor has $L N$ (or $L M$) numbers a sequence. A kernel takes $O(L N^2)$, and no tensor has $L N^2$ numbers; that of
S4D takes $O(L M)$ a channel, and may make $H M L$ numbers. The convolution takes $O(L \log L)$ with a few operators,
whatever L is, and no tensor has $L^2$ numbers. The other functions may cost what they will.

Rules: no `torch.nn.functional.conv1d` or other ready-made convolution.

>>> A, B = hippo_legs(3)
>>> A[2]
tensor([-2.2361, -3.8730, -3.0000], dtype=torch.float64)
>>> B
tensor([1.0000, 1.7321, 2.2361], dtype=torch.float64)

The input 0, 1: its best constant is 1/2, and its best line rises from -1/4 to 5/4:

>>> c = legs_project(torch.tensor([0.0, 1.0]), 2)
>>> c
tensor([[0.0000, 0.0000],
        [0.5000, 0.4330]])
>>> legs_reconstruct(c[1], torch.tensor([0.0, 0.5, 1.0]))
tensor([-0.2500,  0.5000,  1.2500])

A leaking tank and a double integrator, whose A has no inverse:

>>> bilinear(torch.tensor([[-1.0]]), torch.tensor([1.0]), 1.0)
(tensor([[0.3333]]), tensor([0.6667]))
>>> A_bar, B_bar = zero_order_hold(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.tensor([0.0, 1.0]), 2.0)
>>> A_bar, B_bar
(tensor([[1., 2.],
        [0., 1.]]), tensor([2., 2.]))

The same outputs twice:

>>> C, u = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0, 2.0])
>>> y, x = recurrence(A_bar, B_bar, C, u)
>>> y, x
(tensor([ 2.,  6., 14.]), tensor([14.,  6.]))
>>> kernel(A_bar, B_bar, C, 3)
tensor([ 2.,  6., 10.])
>>> causal_convolution(u, kernel(A_bar, B_bar, C, 3)).round(decimals=3)
tensor([ 2.,  6., 14.])

>>> A, C, step = torch.tensor([[-0.5 + 3.0j]]), torch.tensor([[1.0 + 1.0j]]), torch.tensor([0.5])
>>> s4d_kernel(A, C, step, 3)
tensor([[ 0.0771, -0.8775, -0.1435]])
>>> s4d_recurrence(A, C, step, torch.tensor([[[1.0, 0.0, 0.0]]]))[0]
tensor([[[ 0.0771, -0.8775, -0.1435]]])
"""

from __future__ import annotations

import math

import torch


def hippo_legs(N: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The matrices of HiPPO-LegS: A, `(N, N)`, with its negative sign, and B, `(N,)`; float64."""
    # YOUR CODE HERE
    raise NotImplementedError()


def bilinear(A: torch.Tensor, B: torch.Tensor, step: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A_bar, `(N, N)`, and B_bar, `(N,)`, by the bilinear method."""
    # YOUR CODE HERE
    raise NotImplementedError()


def zero_order_hold(A: torch.Tensor, B: torch.Tensor, step: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A_bar, `(N, N)`, and B_bar, `(N,)`, by the zero-order hold; A may be singular."""
    # YOUR CODE HERE
    raise NotImplementedError()


def legs_project(f: torch.Tensor, N: int) -> torch.Tensor:
    """The best polynomials for every prefix of `f`, `(..., L)`, whose sample k holds from time k to k + 1.

    L is 1 or more. Returns `(..., L, N)`: row k holds the coefficients that project samples 0 ... k on [0, k + 1].
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def legs_reconstruct(c: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The values of the polynomials with coefficients `c`, `(..., N)`, at fractions `x`, `(P,)`, of the time.

    x is 0 at the beginning and 1 now. Returns `(..., P)`.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def recurrence(
    A_bar: torch.Tensor, B_bar: torch.Tensor, C: torch.Tensor, u: torch.Tensor, state: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Step by step through `u`, `(..., L)`, from `state`, `(..., N)`, or from zeros.

    Returns y, `(..., L)`, and the last state, `(..., N)`.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def kernel(A_bar: torch.Tensor, B_bar: torch.Tensor, C: torch.Tensor, length: int) -> torch.Tensor:
    """The convolution kernel, `(length,)`: the response to the input 1, 0, 0, ..."""
    # YOUR CODE HERE
    raise NotImplementedError()


def causal_convolution(u: torch.Tensor, K: torch.Tensor) -> torch.Tensor:
    """y_k = sum over j <= k of K_j u_{k - j}, by the fast Fourier transform.

    `u` is `(..., L)`, and `K` is `(L,)` or `(H, L)` for `u` of `(..., H, L)`. Returns the shape and type of `u`.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


def s4d_discretise(A: torch.Tensor, step: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The zero-order hold of H diagonal systems with B = 1: A_bar and B_bar, both `(H, M)` and complex."""
    # YOUR CODE HERE
    raise NotImplementedError()


def s4d_kernel(A: torch.Tensor, C: torch.Tensor, step: torch.Tensor, length: int) -> torch.Tensor:
    """The real kernels of all channels, `(H, length)`."""
    # YOUR CODE HERE
    raise NotImplementedError()


def s4d_recurrence(
    A: torch.Tensor, C: torch.Tensor, step: torch.Tensor, u: torch.Tensor, state: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same as a recurrence over `u`, `(B, H, L)`, from a complex `state`, `(B, H, M)`, or from zeros.

    Returns y, `(B, H, L)`, real, and the last state, `(B, H, M)`. A step costs O(M) a channel.
    """
    # YOUR CODE HERE
    raise NotImplementedError()
