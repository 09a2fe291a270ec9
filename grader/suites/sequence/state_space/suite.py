"""Hidden suite for sequence/state_space: integrals, series and direct sums in float64, gradients through them, counted costs."""

import math

import numpy as np
import pytest
import torch

from grader.compare import assert_close
from grader.cost import assert_cost, assert_growth
from grader.probes import back, gradients
from grader.properties import (
    EVERY_FUNCTION,
    case,
    empty_and_single,
    given,
    holds,
    is_differentiable,
    no_state_between_calls,
    result_is_new,
    rounds_once,
    type_follows,
)
from grader.suite import probe

# --- probes ---


@probe
def held_per_step(module, A, B, steps):
    """B_bar over the step, for several steps: numbers near 1, whose rounding shows."""
    return torch.stack([module.zero_order_hold(A, B, step)[1] / step for step in steps])


@probe
def s4d_per_step(module, name, place, step, *arguments):
    """A result of S4D over the step of each channel, that at a place where there are several."""
    result = getattr(module, name)(*arguments)
    return (result if place is None else result[place]) / step[:, None]


# --- oracles ---

F64 = torch.float64
N, L, H, M, B = 5, 11, 3, 4, 2


def legs(size):
    """A and B of HiPPO-LegS, entry by entry."""
    A = torch.zeros(size, size, dtype=F64)
    for n in range(size):
        for k in range(n):
            A[n, k] = -math.sqrt((2 * n + 1) * (2 * k + 1))
        A[n, n] = -(n + 1)
    return A, torch.tensor([math.sqrt(2 * n + 1) for n in range(size)], dtype=F64)


def legendre(n):
    """The coefficients of sqrt(2 n + 1) P_n(2 x - 1) as a polynomial in x, lowest first."""
    root = math.sqrt(2 * n + 1)
    return [root * (-1) ** (n + j) * math.comb(n, j) * math.comb(n + j, j) for j in range(n + 1)]


def best(f, size, prefixes=None):
    """For every prefix of a step function, its integrals with the basis, by antiderivatives."""
    rows = []
    for k in prefixes or range(1, f.shape[-1] + 1):
        edges = torch.arange(k + 1, dtype=F64) / k
        row = []
        for n in range(size):
            total = sum(a * edges ** (j + 1) / (j + 1) for j, a in enumerate(legendre(n)))
            row.append((f[..., :k] * total.diff()).sum(dim=-1))
        rows.append(torch.stack(row, dim=-1))
    return torch.stack(rows, dim=-2)


def values(c, x):
    """The polynomials' values, by powers of x."""
    return sum(c[..., n, None] * sum(a * x**j for j, a in enumerate(legendre(n))) for n in range(c.shape[-1]))


def antiderivatives(size, z):
    """Those of the basis with respect to the time, from 0 to (z + 1) / 2, each a row; for any size."""
    rows = np.polynomial.legendre.legval(z, np.polynomial.legendre.legint(np.eye(size), lbnd=-1))
    return torch.from_numpy(np.sqrt(2 * np.arange(size) + 1)[:, None] * rows / 2)


def held(A, b, step):
    """The zero-order hold by its power series."""
    term, A_bar, B_bar = torch.eye(len(A), dtype=F64), torch.zeros_like(A), torch.zeros_like(b)
    for j in range(1, 60):
        A_bar = A_bar + term
        B_bar = B_bar + term @ b * step / j
        term = term @ A * step / j
    return A_bar, B_bar


def implicit(A, b, step):
    """The bilinear method by the inverse."""
    eye = torch.eye(len(A), dtype=F64)
    inverse = torch.linalg.inv(eye - A * step / 2)
    return inverse @ (eye + A * step / 2), inverse @ b * step


def response(A_bar, B_bar, C, length):
    """The kernel, by matrix powers."""
    powers = [torch.eye(len(A_bar), dtype=A_bar.dtype)]
    for _ in range(length - 1):
        powers.append(A_bar @ powers[-1])
    return torch.einsum("n,lnm,m->l", C, torch.stack(powers), B_bar)


def convolved(u, K):
    """The causal convolution, sum by sum."""
    length = u.shape[-1]
    return torch.stack([(K[..., : k + 1].flip(-1) * u[..., : k + 1]).sum(dim=-1) for k in range(length)], dim=-1)


def driven(A_bar, B_bar, C, u, x=None):
    """y and the last state, from the kernel and powers of A_bar."""
    length = u.shape[-1]
    powers = [torch.eye(len(A_bar), dtype=F64)]
    for _ in range(length):
        powers.append(A_bar @ powers[-1])
    y = convolved(u, response(A_bar, B_bar, C, length))
    last = sum(u[..., k, None] * (powers[length - 1 - k] @ B_bar) for k in range(length))
    if x is not None:
        y = y + torch.stack([torch.einsum("n,nm,...m->...", C, P, x) for P in powers[1:]], dim=-1)
        last = last + torch.einsum("nm,...m->...n", powers[-1], x)
    return y, last


def diagonal(A, step):
    """A_bar and B_bar of S4D; e^(a + ib) - 1 is e^a - 1 turned, and what the turn of 1 adds, so that nothing cancels."""
    x = step[:, None] * A
    a, b = x.real, x.imag
    less_one = torch.complex(a.expm1() * b.cos() - 2 * (b / 2).sin() ** 2, a.exp() * b.sin())
    return torch.exp(x), less_one / A


def s4d_response(A, C, step, length):
    """The kernels with every mode and its conjugate written out."""
    A, C = torch.cat([A, A.conj()], dim=1), torch.cat([C, C.conj()], dim=1)
    A_bar, B_bar = diagonal(A, step)
    rows, power = [], torch.ones_like(A)
    for _ in range(length):
        rows.append((C * B_bar * power).sum(dim=1).real)
        power = power * A_bar
    return torch.stack(rows, dim=1)


def s4d_driven(A, C, step, u, x=None):
    """y and the last state of S4D."""
    length = u.shape[-1]
    _, B_bar = diagonal(A, step)
    y = convolved(u, s4d_response(A, C, step, length))
    last = sum(u[..., k, None] * B_bar * torch.exp((length - 1 - k) * step[:, None] * A) for k in range(length))
    if x is not None:
        decays = torch.exp(torch.arange(1, length + 1)[:, None, None] * step[:, None] * A)  # (L, H, M)
        y = y + 2 * torch.einsum("hm,lhm,bhm->bhl", C, decays, x).real
        last = last + decays[-1] * x
    return y, last


def system(draw, size=N):
    """A stable A, and B and C."""
    A = draw.normal(size, size, dtype=F64) / 2 - 1.5 * torch.eye(size, dtype=F64)
    return A, draw.normal(size, dtype=F64), draw.normal(size, dtype=F64)


def discrete(draw, size=N):
    """A_bar that shrinks slowly, B_bar and C."""
    q, _ = torch.linalg.qr(draw.normal(size, size, dtype=F64))
    return 0.9 * q, draw.normal(size, dtype=F64), draw.normal(size, dtype=F64)


def modes(draw, channels=H, size=M):
    """A, C and step of S4D."""
    shape = (channels, size)
    A = torch.complex(-draw.uniform(*shape, low=0.3, high=1, dtype=F64), 3 * draw.normal(*shape, dtype=F64))
    C = torch.complex(draw.normal(*shape, dtype=F64), draw.normal(*shape, dtype=F64))
    return A, C, draw.uniform(channels, low=0.2, high=0.6, dtype=F64)


def past(draw):
    """A complex state of S4D."""
    return torch.complex(draw.normal(B, H, M, dtype=F64), draw.normal(B, H, M, dtype=F64))


STEPS = [1e-9, 1e-7, 1e-5, 1e-4, 1e-3, 5e-3, 2e-2, 0.1, 1.0]
METHODS = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.part(name)) for name in ("bilinear", "zero_order_hold")]
)
ORACLES = {"bilinear": implicit, "zero_order_hold": held}


class TestValues:
    @pytest.mark.part("hippo_legs")
    def test_hippo(self, submission):
        """A is lower triangular and negative, entry by entry, and B holds the roots"""
        assert_close(submission.hippo_legs(6), legs(6), what="(A, B)", dtype=F64)

    @METHODS
    def test_discretisation(self, submission, draw, name):
        """the discrete system is that of the formulas"""
        A, b, _ = system(draw)
        got = getattr(submission, name)(A, b, 0.7)
        assert_close(got, ORACLES[name](A, b, 0.7), what="(A_bar, B_bar)", dtype=F64)

    @pytest.mark.part("legs_project")
    @pytest.mark.points(2)
    def test_projection(self, submission, draw):
        """the coefficients of every prefix are its integrals with the Legendre polynomials"""
        f = draw.normal(B, L, dtype=F64)
        assert_close(submission.legs_project(f, N), best(f, N), what="coefficients after each sample", dtype=F64)

    @pytest.mark.part("legs_reconstruct")
    def test_reconstruction(self, submission, draw):
        """the polynomials have the values of the orthonormal basis"""
        c, x = draw.normal(B, H, N, dtype=F64), draw.uniform(7, dtype=F64)
        assert_close(submission.legs_reconstruct(c, x), values(c, x), what="values of the polynomials", dtype=F64)

    @pytest.mark.part("recurrence")
    @pytest.mark.parametrize("given", [False, True], ids=["from zeros", "from a state"])
    def test_recurrence(self, submission, draw, given):
        """outputs are read after the update, and the last state comes with them"""
        A_bar, B_bar, C = discrete(draw)
        u, x = draw.normal(B, H, L, dtype=F64), draw.normal(B, H, N, dtype=F64)
        more = (x,) if given else ()
        got = submission.recurrence(A_bar, B_bar, C, u, *more)
        assert_close(got, driven(A_bar, B_bar, C, u, *more), what="(y, last state)", dtype=F64)

    @pytest.mark.part("kernel")
    def test_kernel(self, submission, draw):
        """the kernel begins with C B_bar and goes on with powers of A_bar"""
        system = discrete(draw)
        assert_close(submission.kernel(*system, L), response(*system, L), what="kernel", dtype=F64)

    @pytest.mark.part("causal_convolution")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("shape", [(L,), (H, L)], ids=["one kernel", "a kernel a channel"])
    def test_convolution(self, submission, draw, shape):
        """every output is the sum over the inputs so far"""
        u, K = draw.normal(B, H, L, dtype=F64), draw.normal(*shape, dtype=F64)
        assert_close(submission.causal_convolution(u, K), convolved(u, K), what="y", dtype=F64)

    @pytest.mark.part("s4d_discretise")
    def test_s4d_discretisation(self, submission, draw):
        """each mode has its own zero-order hold"""
        A, _, step = modes(draw)
        got = submission.s4d_discretise(A, step)
        assert_close(got, diagonal(A, step), what="(A_bar, B_bar)", dtype=torch.complex128)

    @pytest.mark.part("s4d_kernel")
    @pytest.mark.points(2)
    def test_s4d_kernel(self, submission, draw):
        """half of the modes give the kernel of all"""
        A, C, step = modes(draw)
        assert_close(submission.s4d_kernel(A, C, step, L), s4d_response(A, C, step, L), what="kernels", dtype=F64)

    @pytest.mark.part("s4d_recurrence")
    @pytest.mark.parametrize("given", [False, True], ids=["from zeros", "from a state"])
    def test_s4d_recurrence(self, submission, draw, given):
        """S4D step by step: real outputs, and the complex last state"""
        A, C, step = modes(draw)
        u, x = draw.normal(B, H, L, dtype=F64), past(draw)
        more = (x,) if given else ()
        got = submission.s4d_recurrence(A, C, step, u, *more)
        assert_close(got, s4d_driven(A, C, step, u, *more), what="(y, last state)")


class TestStability:
    @pytest.mark.part("zero_order_hold")
    @pytest.mark.parametrize("dtype", [F64, torch.float32], ids=str)
    def test_small_steps(self, submission, draw, dtype):
        """the hold is right for steps from 1e-9 to 1: B_bar is B times the step, not what cancellation leaves"""
        A, b, _ = system(draw)
        got = submission.run(held_per_step, A.to(dtype), b.to(dtype), STEPS)
        expected = torch.stack([held(A, b, step)[1] / step for step in STEPS]).to(dtype)
        assert_close(got, expected, what=f"B_bar / step for steps of {STEPS}", dtype=dtype)

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=pytest.mark.part(name))
            for name in ("s4d_discretise", "s4d_kernel", "s4d_recurrence")
        ],
    )
    @pytest.mark.parametrize("dtype", [F64, torch.float32], ids=str)
    def test_s4d_small_steps(self, submission, draw, name, dtype):
        """S4D is right for steps from 1e-9 to 1, over which its results are near 1"""
        A, C, _ = modes(draw, len(STEPS))
        step = torch.tensor(STEPS, dtype=F64)
        u = draw.normal(B, len(STEPS), 5, dtype=F64)
        arguments, place, oracle = {
            "s4d_discretise": ([A, step], 1, diagonal),
            "s4d_kernel": ([A, C, step, 5], None, s4d_response),
            "s4d_recurrence": ([A, C, step, u], 0, s4d_driven),
        }[name]
        pairs = torch.complex64 if dtype == torch.float32 else torch.complex128
        narrow = [x if type(x) is int else x.to(pairs if x.is_complex() else dtype) for x in arguments]
        got = submission.run(s4d_per_step, name, place, step.to(dtype), *narrow)
        right = oracle(*arguments)
        expected = (right if place is None else right[place]) / step[:, None]
        assert_close(got, expected.to(pairs if expected.is_complex() else dtype), what="result / step")

    @pytest.mark.part("s4d_kernel")
    def test_strong_damping(self, submission, draw):
        """modes that die within a step leave finite kernels and gradients"""
        A, C, step = modes(draw)
        A[:, 1] *= 10000
        upstream = draw.normal(H, L, dtype=F64)
        got = submission.run(gradients, "s4d_kernel", [A, C, step], upstream, L)
        leaves = [x.clone().requires_grad_() for x in (A, C, step)]
        expected = back(s4d_response(*leaves, L), leaves, upstream)
        assert_close(got, expected, what="(kernels, gradients of [A, C, step])")

    @pytest.mark.part("legs_project")
    @pytest.mark.parametrize(("length", "size"), [(40, 4), (9, 24)], ids=["many samples", "many coefficients"])
    def test_large_projection(self, submission, draw, length, size):
        """the projection of 40 samples, or on 24 polynomials, is still exact"""
        f = draw.normal(length, dtype=F64)
        got = submission.legs_project(f, size)[-1]
        expected = antiderivatives(size, np.linspace(-1, 1, length + 1)).diff() @ f
        assert_close(got, expected, what=f"coefficients after {length} samples", dtype=F64)

    @pytest.mark.part("legs_reconstruct")
    @pytest.mark.parametrize("dtype", [F64, torch.float32], ids=str)
    def test_many_polynomials(self, submission, draw, dtype):
        """polynomials of degree 23 have their values: their powers, with factors up to 1e17, would cancel"""
        c, x = draw.normal(B, 24, dtype=dtype), draw.uniform(9, dtype=dtype)
        got = submission.legs_reconstruct(c, x)
        roots = torch.tensor([math.sqrt(2 * n + 1) for n in range(24)], dtype=F64)
        expected = np.polynomial.legendre.legval(2 * x.double().numpy() - 1, (c.double() * roots).T.numpy())
        how = {} if dtype == F64 else {"rtol": 1e-4, "atol": 1e-3, "reason": "24 steps of the recursion lose a digit"}
        assert_close(got, torch.from_numpy(expected).to(dtype), what="values", dtype=dtype, **how)


class TestEdgeCases:
    @pytest.mark.part("zero_order_hold")
    def test_singular(self, submission, draw):
        """an integrator chain, whose A has no inverse, has a hold"""
        A, b = torch.diag(draw.uniform(N - 1, low=0.5, high=2, dtype=F64), 1), draw.normal(N, dtype=F64)
        got = submission.zero_order_hold(A, b, 0.7)
        assert_close(got, held(A, b, 0.7), what="(A_bar, B_bar)", dtype=F64)


def systems(draw):
    """Two steps, one of them a tensor, and a single state."""
    steps = (0.7, torch.tensor(0.3, dtype=F64), 0.5)
    return [given(*system(draw, size)[:2], step) for size, step in zip((N, 3, 1), steps, strict=True)]


def samples(draw):
    """A batch, one sample, one coefficient, and a sequence by itself."""
    shapes = (((B, L), N), ((B, H, 1), 2), ((1, 3), 1), ((4,), 3))
    return [given(draw.normal(*shape, dtype=F64), size) for shape, size in shapes]


def coefficients(draw):
    """A batch, one coefficient at one place, and one polynomial."""
    shapes = (((B, H, N), 7), ((B, 1), 1), ((2,), 3))
    return [given(draw.normal(*shape, dtype=F64), draw.uniform(places, dtype=F64)) for shape, places in shapes]


def sequences(draw):
    """With a state and from zeros, a batch and one, one step and one state."""
    calls = []
    for shape, size, start in (
        ((B, H, L), N, True),
        ((B, 4), 3, False),
        ((5,), N, True),
        ((1, 1), 1, True),
        ((3,), 2, False),
    ):
        state = [draw.normal(*shape[:-1], size, dtype=F64)] if start else []
        calls.append(given(*discrete(draw, size), draw.normal(*shape, dtype=F64), *state))
    return calls


def convolutions(draw):
    """A kernel a channel and one for all, one sequence, one channel, one step."""
    shapes = (((B, H, L), (H, L)), ((B, H, 8), (8,)), ((5,), (5,)), ((1, 1, 3), (1, 3)), ((B, H, 1), (H, 1)))
    return [given(*(draw.normal(*shape, dtype=F64) for shape in pair)) for pair in shapes]


def diagonals(draw, *lengths):
    """Several channels and modes, and one of each."""
    sizes = ((H, M), (1, 2), (2, 1))
    return [given(*modes(draw, *size), *lengths[i : i + 1]) for i, size in enumerate(sizes)]


def s4d_sequences(draw):
    """With a state and from zeros, a batch of one, one step, one channel and one mode."""
    calls = [given(*modes(draw), draw.normal(B, H, L, dtype=F64), past(draw))]
    for batch, channels, size, length in ((3, 2, 5, 4), (1, 3, 1, 2), (2, 1, 2, 1)):
        calls.append(given(*modes(draw, channels, size), draw.normal(batch, channels, length, dtype=F64)))
    return calls


FUNCTION = (*EVERY_FUNCTION, is_differentiable, empty_and_single)
TestProperties = holds(
    case("hippo_legs", lambda draw: [given(4), given(1), given(7)], result_is_new, no_state_between_calls, expect=legs),
    case("bilinear", systems, *FUNCTION, expect=implicit),
    case("zero_order_hold", systems, *FUNCTION, expect=held),
    case("legs_project", samples, *FUNCTION, expect=best),
    case("legs_reconstruct", coefficients, *FUNCTION, expect=values),
    case("recurrence", sequences, *FUNCTION, expect=driven),
    case(
        "kernel",
        lambda draw: [given(*discrete(draw), L), given(*discrete(draw, 3), 1), given(*discrete(draw, 1), 4)],
        *FUNCTION,
        expect=response,
    ),
    case("causal_convolution", convolutions, *FUNCTION, rounds_once, type_follows(0), expect=convolved),
    case(
        "s4d_discretise",
        lambda draw: [given(A, step) for A, _, step in (call.args for call in diagonals(draw))],
        *FUNCTION,
        expect=diagonal,
    ),
    case("s4d_kernel", lambda draw: diagonals(draw, L, 1, 4), *FUNCTION, expect=s4d_response),
    case("s4d_recurrence", s4d_sequences, *FUNCTION, expect=s4d_driven),
)


class TestPerformance:
    @pytest.mark.part("causal_convolution")
    @pytest.mark.points(2)
    def test_convolution_cost(self, submission, draw):
        """memory grows with L, not with its square, and operators not at all"""
        inputs = [(draw.normal(B, H, n), draw.normal(H, n)) for n in (256, 512)]
        costs = [submission.measure("causal_convolution", *arguments).cost for arguments in inputs]
        assert_growth(*costs, "peak_bytes", at_most=2.2, when="L doubles")
        assert_growth(*costs, "operators", at_most=1.0, when="L doubles", slack=4)
        assert_cost(costs[1], "largest_bytes", at_most=B * H * 512 * 4 * 10, why="ten numbers for each one of u")

    @pytest.mark.part("kernel")
    def test_kernel_cost(self, submission, draw):
        """a kernel takes time in proportion to L N^2, and no power of A_bar is kept for each entry"""
        costs = []
        for size, length in ((8, 32), (8, 64), (16, 64)):
            arguments = [x.float() for x in discrete(draw, size)]
            costs.append(submission.measure("kernel", *arguments, length).cost)
        for metric in ("flops", "operators"):  # a product of a matrix and a vector is an operator, and counts no flops
            assert_growth(*costs[:2], metric, at_most=2.2, when="L doubles")
        assert_growth(*costs[1:], "flops", at_most=6.5, when="N doubles")
        assert_growth(*costs[1:], "operators", at_most=1.0, when="N doubles", slack=4)
        assert_cost(costs[2], "largest_bytes", at_most=64 * 16 * 4 * 4, why="4 L N numbers; L N^2 are too many")

    @pytest.mark.part("s4d_kernel")
    def test_s4d_kernel_cost(self, submission, draw):
        """the diagonal stays a diagonal: no more than H M L numbers, nor operations"""
        A, C, step = modes(draw, H, 24)
        modes_of = [A.to(torch.complex64), C.to(torch.complex64), step.float()]
        short, long = (submission.measure("s4d_kernel", *modes_of, length).cost for length in (24, 48))
        numbers = H * 24 * 48
        assert_growth(short, long, "operators", at_most=2.2, when="L doubles")
        assert_cost(long, "flops", at_most=8 * numbers, why="8 for each of H M L; matrices take M times as many")
        assert_cost(long, "largest_bytes", at_most=4 * numbers * 8, why="4 H M L complex numbers")

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("recurrence", marks=pytest.mark.part("recurrence")),
            pytest.param("s4d_recurrence", marks=pytest.mark.part("s4d_recurrence")),
        ],
    )
    def test_recurrence_cost(self, submission, draw, name):
        """a recurrence keeps one state, not one for every step; a step is one product, or M of numbers"""
        size, costs = 24, []
        for length in (24, 48):
            u = draw.normal(B, H, length)
            if name == "recurrence":
                arguments = [x.float() for x in discrete(draw, size)]
            else:
                A, C, step = modes(draw, H, size)
                arguments = [A.to(torch.complex64), C.to(torch.complex64), step.float()]
            costs.append(submission.measure(name, *arguments, u).cost)
        assert_growth(*costs, "operators", at_most=2.2, when="L doubles")
        at_most = 8 * B * H * 48 * 4
        assert_cost(costs[1], "largest_bytes", at_most=at_most, why="8 numbers for each one of u; a state has 24")
        each = 3 * size**2 if name == "recurrence" else 8 * size
        assert_cost(
            costs[1], "flops", at_most=B * H * 48 * each, why=f"{each} for each of {B * H} sequences and 48 steps"
        )
