"""sequence/state_space's solution against scipy (expm, cont2discrete, quadrature, Legendre polynomials) and direct sums."""

import numpy as np
import pytest
import torch
from scipy import integrate, linalg, signal, special

N, L = 5, 13


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)


def close(got, expected, tolerance=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(expected), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("system", ["random", "legs", "singular"])
@pytest.mark.parametrize("method", ["bilinear", "zoh"])
def test_discretisation(mine, draw, method, system):
    A, B = mine.hippo_legs(N)
    if system != "legs":
        A, B = draw(N, N), draw(N)
    if system == "singular":
        A[:, 0] = 0
    # cont2discrete's bilinear method changes C and D as well, so only A and B are compared
    A_bar, B_bar, *_ = signal.cont2discrete((A.numpy(), B[:, None].numpy(), np.eye(N), np.zeros((N, 1))), 0.3, method)
    got = {"bilinear": mine.bilinear, "zoh": mine.zero_order_hold}[method](A, B, 0.3)
    close(got[0], A_bar)
    close(got[1], B_bar[:, 0])


def test_hold_is_expm(mine, draw):
    A, B = draw(N, N), draw(N)
    close(mine.zero_order_hold(A, B, 0.4)[0], linalg.expm(0.4 * A.numpy()), 1e-11)


def test_legs_is_stable(mine):
    eigenvalues = np.sort(linalg.eigvals(mine.hippo_legs(N)[0].numpy()).real)
    close(torch.from_numpy(eigenvalues), torch.arange(-N, 0, dtype=torch.float64), 1e-10)


@pytest.mark.parametrize("prefix", [1, 2, L])
def test_projection_by_quadrature(mine, draw, prefix):
    f = draw(L)
    got = mine.legs_project(f, N)[prefix - 1]
    for n in range(N):
        total = sum(
            float(f[k]) * integrate.quad(lambda s, n=n: special.eval_legendre(n, 2 * s / prefix - 1), k, k + 1)[0]
            for k in range(prefix)
        )
        close(got[n], np.sqrt(2 * n + 1) * total / prefix, 1e-10)


def test_projection_is_best(mine, draw):
    """Least squares on a fine grid finds nothing closer."""
    f, fine = draw(L), 400
    x = (torch.arange(L * fine) + 0.5) / (L * fine)
    x = x.double()
    basis = mine.legs_reconstruct(torch.eye(N, dtype=torch.float64), x)
    best = torch.linalg.lstsq(basis.T, f.repeat_interleave(fine)[:, None]).solution[:, 0]
    close(mine.legs_project(f, N)[-1], best, 1e-4)


def test_reconstruction(mine, draw):
    c, x = draw(3, N), torch.linspace(0, 1, 9, dtype=torch.float64)
    expected = sum(
        c[:, n, None] * np.sqrt(2 * n + 1) * torch.from_numpy(special.eval_legendre(n, 2 * x.numpy() - 1))
        for n in range(N)
    )
    close(mine.legs_reconstruct(c, x), expected)


def test_recurrence_against_scipy(mine, draw):
    A, B, C, u = draw(N, N) / 4, draw(N), draw(N), draw(L)
    # scipy reads before the update: a state delayed by one step, C A x + C B u
    system = (A.numpy(), B[:, None].numpy(), (C @ A)[None].numpy(), (C @ B).reshape(1, 1).numpy(), 1)
    _, y, _ = signal.dlsim(system, u.numpy())
    got, _ = mine.recurrence(A, B, C, u)
    close(got, y[:, 0])
    close(mine.causal_convolution(u, mine.kernel(A, B, C, L)), y[:, 0])


def test_convolution(mine, draw):
    u, K = draw(2, 3, L), draw(3, L)
    expected = [[np.convolve(u[b, h], K[h])[:L] for h in range(3)] for b in range(2)]
    close(mine.causal_convolution(u, K), np.array(expected))


def test_s4d_is_the_dense_system(mine, draw):
    """The real system of twice the size: a mode and its conjugate are a rotation."""
    A, C = torch.complex(-draw(1, 3).abs(), 2 * draw(1, 3)), torch.complex(draw(1, 3), draw(1, 3))
    step, u = torch.tensor([0.3], dtype=torch.float64), draw(2, 1, L)
    full = torch.diag(torch.cat([A, A.conj()], dim=1)[0]).numpy()
    A_bar = linalg.expm(0.3 * full)
    B_bar = linalg.solve(full, (A_bar - np.eye(6)) @ np.ones(6))
    both = torch.cat([C, C.conj()], dim=1)[0].numpy()
    K = np.array([both @ np.linalg.matrix_power(A_bar, i) @ B_bar for i in range(L)]).real
    close(mine.s4d_kernel(A, C, step, L)[0], K)
    expected = np.array([np.convolve(row[0], K)[:L] for row in u.numpy()])
    close(mine.s4d_recurrence(A, C, step, u)[0][:, 0], expected)
