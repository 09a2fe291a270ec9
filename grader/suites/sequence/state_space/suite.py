"""Hidden suite for sequence/state_space: integrals, series and direct sums in float64, gradients through them, counted costs."""

import math

import pytest
import torch

from grader.compare import assert_close, assert_equal
from grader.cost import assert_cost, assert_growth
from grader.probes import vjp
from grader.suite import probe

# --- probes ---


@probe
def gradients(module, name, tensors, upstream, *rest):
    """What reaches the tensors when `upstream` arrives at the results of a function of the module."""
    leaves = [x.clone().requires_grad_() for x in tensors]
    results = getattr(module, name)(*leaves, *rest)
    return vjp(results if isinstance(results, tuple) else [results], leaves, upstream)


@probe
def s4d_gradients(module, tensors, upstream):
    """What reaches A, C, step, u and the state of S4D, through y and the new state's real plus imaginary parts."""
    leaves = [x.clone().requires_grad_() for x in tensors]
    y, state = module.s4d_recurrence(*leaves)
    return vjp([y, torch.view_as_real(state).sum(dim=-1)], leaves, upstream)


@probe
def dense_both(module, A_bar, B_bar, C, u):
    """The outputs of the recurrence, and of the convolution with the kernel."""
    y, _ = module.recurrence(A_bar, B_bar, C, u)
    return y, module.causal_convolution(u, module.kernel(A_bar, B_bar, C, u.shape[-1]))


@probe
def s4d_both(module, A, C, step, u):
    """The outputs of S4D's recurrence, and of the convolution with its kernel."""
    y, _ = module.s4d_recurrence(A, C, step, u)
    return y, module.causal_convolution(u, module.s4d_kernel(A, C, step, u.shape[-1]))


@probe
def scaled_input(module, name, first, second, step):
    """B_bar of a discretisation over the step: numbers near 1, whose rounding shows."""
    return getattr(module, name)(first, second, step)[1] / step


@probe
def scaled_diagonal(module, A, step):
    """B_bar of S4D over the steps."""
    return module.s4d_discretise(A, step)[1] / step[:, None]


@probe
def rounded_convolution(module, u, K):
    """The type of the convolution, and its values in float64."""
    y = module.causal_convolution(u, K)
    return y.dtype, y.double()


# --- oracles ---

F64 = torch.float64
N, L, H, M, B = 5, 11, 3, 4, 2


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
    """A_bar and B_bar of S4D."""
    A_bar = torch.exp(step[:, None] * A)
    return A_bar, (A_bar - 1) / A


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


def expected_gradients(function, tensors, upstream):
    """As the probe `gradients`, of an oracle."""
    leaves = [x.clone().requires_grad_() for x in tensors]
    results = function(*leaves)
    return vjp(results if isinstance(results, tuple) else [results], leaves, upstream)


def shaped(draw, results):
    """Random gradients in the shapes and types of results."""
    results = results if isinstance(results, tuple) else (results,)
    return [
        torch.complex(draw.normal(*y.shape, dtype=F64), draw.normal(*y.shape, dtype=F64))
        if y.is_complex()
        else draw.normal(*y.shape, dtype=F64)
        for y in results
    ]


METHODS = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.part(name)) for name in ("bilinear", "zero_order_hold")]
)
ORACLES = {"bilinear": implicit, "zero_order_hold": held}


class TestValues:
    @pytest.mark.part("hippo_legs")
    def test_hippo(self, submission):
        """A is lower triangular and negative, entry by entry, and B holds the roots"""
        A = torch.zeros(6, 6, dtype=F64)
        for n in range(6):
            for k in range(n):
                A[n, k] = -math.sqrt((2 * n + 1) * (2 * k + 1))
            A[n, n] = -(n + 1)
        expected = (A, torch.tensor([math.sqrt(2 * n + 1) for n in range(6)], dtype=F64))
        assert_close(submission.hippo_legs(6), expected, what="(A, B)", dtype=F64)

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

    @pytest.mark.parametrize(
        ("form", "shape"),
        [
            pytest.param(dense_both, (B, L), marks=pytest.mark.part("recurrence"), id="dense"),
            pytest.param(s4d_both, (B, H, L), marks=pytest.mark.part("s4d_recurrence"), id="S4D"),
        ],
    )
    def test_recurrence_is_convolution(self, submission, draw, form, shape):
        """the recurrence and the convolution with the kernel give the same outputs"""
        arguments = discrete(draw) if form is dense_both else modes(draw)
        stepped, convolution = submission.run(form, *arguments, draw.normal(*shape, dtype=F64))
        assert_close(convolution, stepped, what="y by convolution, against y by recurrence", dtype=F64)


class TestGradients:
    @METHODS
    def test_discretisation_gradients(self, submission, draw, name):
        """A, B and the step get their gradients"""
        A, b, _ = system(draw)
        tensors = [A, b, torch.tensor(0.7, dtype=F64)]
        upstream = shaped(draw, (A, b))
        got = submission.run(gradients, name, tensors, upstream)
        assert_close(got, expected_gradients(ORACLES[name], tensors, upstream), what="gradients of [A, B, step]")

    @pytest.mark.part("legs_project")
    def test_projection_gradients(self, submission, draw):
        """gradients reach every sample"""
        f, upstream = draw.normal(B, 5, dtype=F64), [draw.normal(B, 5, N, dtype=F64)]
        got = submission.run(gradients, "legs_project", [f], upstream, N)
        assert_close(got, expected_gradients(lambda f: best(f, N), [f], upstream), what="gradient of [f]")

    @pytest.mark.part("legs_reconstruct")
    def test_reconstruction_gradients(self, submission, draw):
        """coefficients and places get their gradients"""
        tensors, upstream = [draw.normal(B, N, dtype=F64), draw.uniform(7, dtype=F64)], [draw.normal(B, 7, dtype=F64)]
        got = submission.run(gradients, "legs_reconstruct", tensors, upstream)
        assert_close(got, expected_gradients(values, tensors, upstream), what="gradients of [c, x]")

    @pytest.mark.part("recurrence")
    def test_recurrence_gradients(self, submission, draw):
        """gradients flow through all steps, into the state and out of it"""
        tensors = [*discrete(draw), draw.normal(B, 6, dtype=F64), draw.normal(B, N, dtype=F64)]
        upstream = shaped(draw, driven(*tensors))
        got = submission.run(gradients, "recurrence", tensors, upstream)
        expected = expected_gradients(driven, tensors, upstream)
        assert_close(got, expected, what="gradients of [A_bar, B_bar, C, u, state]")

    @pytest.mark.part("kernel")
    def test_kernel_gradients(self, submission, draw):
        """the kernel sends gradients to the system"""
        tensors, upstream = discrete(draw), [draw.normal(L, dtype=F64)]
        got = submission.run(gradients, "kernel", tensors, upstream, L)
        expected = expected_gradients(lambda *system: response(*system, L), tensors, upstream)
        assert_close(got, expected, what="gradients of [A_bar, B_bar, C]")

    @pytest.mark.part("causal_convolution")
    def test_convolution_gradients(self, submission, draw):
        """input and kernel get their gradients"""
        tensors, upstream = (
            [draw.normal(B, H, L, dtype=F64), draw.normal(H, L, dtype=F64)],
            [draw.normal(B, H, L, dtype=F64)],
        )
        got = submission.run(gradients, "causal_convolution", tensors, upstream)
        assert_close(got, expected_gradients(convolved, tensors, upstream), what="gradients of [u, K]")

    @pytest.mark.part("s4d_kernel")
    def test_s4d_kernel_gradients(self, submission, draw):
        """modes, their weights and the steps get their gradients"""
        tensors, upstream = modes(draw), [draw.normal(H, L, dtype=F64)]
        got = submission.run(gradients, "s4d_kernel", tensors, upstream, L)
        expected = expected_gradients(lambda *arguments: s4d_response(*arguments, L), tensors, upstream)
        assert_close(got, expected, what="gradients of [A, C, step]")

    @pytest.mark.part("s4d_recurrence")
    def test_s4d_recurrence_gradients(self, submission, draw):
        """gradients flow through all steps of S4D, into the state and out of it"""
        tensors = [*modes(draw), draw.normal(B, H, 5, dtype=F64), past(draw)]
        upstream = [draw.normal(B, H, 5, dtype=F64), draw.normal(B, H, M, dtype=F64)]

        def real_state(*arguments):
            y, last = s4d_driven(*arguments)
            return y, torch.view_as_real(last).sum(dim=-1)

        got = submission.run(s4d_gradients, tensors, upstream)
        assert_close(got, expected_gradients(real_state, tensors, upstream), what="gradients of [A, C, step, u, state]")


class TestStability:
    @pytest.mark.part("zero_order_hold")
    def test_small_step(self, submission, draw):
        """the hold is right for a step of 1e-5 in float32: B_bar is B times the step, not what cancellation leaves"""
        A, b, _ = system(draw)
        got = submission.run(scaled_input, "zero_order_hold", A.float(), b.float(), 1e-5)
        assert_close(got, (held(A, b, 1e-5)[1] / 1e-5).float(), what="B_bar / step", dtype=torch.float32)

    @pytest.mark.part("s4d_discretise")
    @pytest.mark.points(2)
    def test_s4d_small_step(self, submission, draw):
        """S4D's hold is right for steps of 1e-6 in complex64"""
        A, _, step = modes(draw)
        step = step * 1e-6
        got = submission.run(scaled_diagonal, A.to(torch.complex64), step.float())
        expected = (1 + step[:, None] * A / 2).to(torch.complex64)  # to 1e-11
        assert_close(got, expected, what="B_bar / step", dtype=torch.complex64)

    @pytest.mark.part("s4d_kernel")
    def test_strong_damping(self, submission, draw):
        """modes that die within a step leave finite kernels and gradients"""
        A, C, step = modes(draw)
        A[:, 1] *= 10000
        tensors, upstream = [A, C, step], [draw.normal(H, L, dtype=F64)]
        assert_close(submission.s4d_kernel(*tensors, L), s4d_response(*tensors, L), what="kernels", dtype=F64)
        got = submission.run(gradients, "s4d_kernel", tensors, upstream, L)
        expected = expected_gradients(lambda *arguments: s4d_response(*arguments, L), tensors, upstream)
        assert_close(got, expected, what="gradients of [A, C, step]")

    @pytest.mark.part("legs_project")
    def test_long_projection(self, submission, draw):
        """the projection of 40 samples is still exact"""
        f = draw.normal(40, dtype=F64)
        got = submission.legs_project(f, 4)[-1:]
        assert_close(got, best(f, 4, [40]), what="coefficients after 40 samples", dtype=F64)

    @pytest.mark.part("causal_convolution")
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_half_precision(self, submission, draw, dtype):
        """half precision is convolved in float32 and rounded once"""
        u, K = draw.normal(B, H, L, dtype=dtype), draw.normal(H, L)
        got, y = submission.run(rounded_convolution, u, K)
        assert_equal(got, dtype, what="type of y")
        rtol = torch.finfo(dtype).eps
        reason = f"one rounding to {dtype} is allowed"
        assert_close(y, convolved(u.double(), K.double()), what="y", rtol=rtol, atol=1e-5, reason=reason)


class TestEdgeCases:
    @pytest.mark.part("zero_order_hold")
    def test_singular(self, submission, draw):
        """an integrator chain, whose A has no inverse, has a hold"""
        A, b = torch.diag(draw.uniform(N - 1, low=0.5, high=2, dtype=F64), 1), draw.normal(N, dtype=F64)
        got = submission.zero_order_hold(A, b, 0.7)
        assert_close(got, held(A, b, 0.7), what="(A_bar, B_bar)", dtype=F64)

    @pytest.mark.part("legs_reconstruct")
    def test_one_coefficient(self, submission, draw):
        """a single coefficient is a constant"""
        c, x = draw.normal(B, 1, dtype=F64), draw.uniform(7, dtype=F64)
        assert_close(submission.legs_reconstruct(c, x), c.expand(B, 7), what="values", dtype=F64)

    @pytest.mark.part("legs_project")
    def test_one_sample(self, submission, draw):
        """after one sample the polynomial is that constant"""
        f = draw.normal(B, H, 1, dtype=F64)
        assert_close(submission.legs_project(f, N), best(f, N), what="coefficients", dtype=F64)

    @pytest.mark.part("causal_convolution")
    def test_length_one(self, submission, draw):
        """a sequence of one step is one product"""
        u, K = draw.normal(B, H, 1, dtype=F64), draw.normal(H, 1, dtype=F64)
        assert_close(submission.causal_convolution(u, K), u * K, what="y", dtype=F64)

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("causal_convolution", marks=pytest.mark.part("causal_convolution")),
            pytest.param("s4d_recurrence", marks=pytest.mark.part("s4d_recurrence")),
        ],
    )
    def test_memory_order(self, submission, draw, name):
        """inputs may lie in memory in any order, or be expanded; states too"""
        A, C, step = modes(draw)
        u = draw.normal(L, 1, H, dtype=F64).permute(1, 2, 0).expand(B, H, L)
        if name == "causal_convolution":
            K = draw.normal(L, H, dtype=F64).T
            assert_close(submission.causal_convolution(u, K), convolved(u, K), what="y", dtype=F64)
        else:
            x = past(draw)[:, :1].expand(B, H, M)
            got = submission.s4d_recurrence(A, C, step, u, x)
            assert_close(got, s4d_driven(A, C, step, u, x), what="(y, last state)")


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
        """a kernel takes time in proportion to its length, and no power of A_bar is kept for each entry"""
        size = 16
        system = [x.float() for x in discrete(draw, size)]
        costs = [submission.measure("kernel", *system, n).cost for n in (24, 48)]
        assert_growth(*costs, "flops", at_most=2.2, when="L doubles")
        assert_cost(costs[1], "largest_bytes", at_most=48 * size * 4 * 4, why="4 L N numbers; L N^2 are too many")

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("recurrence", marks=pytest.mark.part("recurrence")),
            pytest.param("s4d_recurrence", marks=pytest.mark.part("s4d_recurrence")),
        ],
    )
    def test_recurrence_cost(self, submission, draw, name):
        """a recurrence keeps one state, not one for every step"""
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
