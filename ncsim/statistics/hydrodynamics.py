"""An ensemble as a fluid: does the density of what members have learned obey a Schroedinger equation?

For a density p(q, t) with the velocity v of its current, dp/dt = -(p v)', the acceleration is A = dv/dt + v v'. Madelung's form of
Schroedinger's equation is A = -W' + kappa G, with G = (sqrt(p)'' / sqrt(p))', one potential W for all, and one constant
kappa = hbar^2 / 2 m^2 > 0 (Madelung 1927). arXiv:2012.05082 claims it of learning.

**What holds of gradient learning with white noise.** Let dq = b dt + sqrt(2 D) dB, b = -gamma grad F the same at all times, D one
constant. The velocity is v = b - u, u = D grad ln p, which is a gradient. From continuity, dv/dt = D grad(div v + v . u / D),
and v . grad v = grad |v|^2 / 2. Together A = grad(D div b - D div u + b . u - |u|^2 + |b - u|^2 / 2)
= grad(D div b + |b|^2 / 2) - grad(D div u + |u|^2 / 2). The last bracket is 2 D^2 lap sqrt(p) / sqrt(p). So, in any dimension and
for any F, **kappa = -2 D^2 exactly and W = -(|b|^2 / 2 + D div b)**: Schroedinger's equation in imaginary time. If b changes with
time, db/dt joins -W' and is the same for all starts. If D does, -D' grad ln p comes in, which is no multiple of G.

The estimator takes two ensembles that differ in their start alone and looks at them at the same time: the slope of A_1 - A_2 on
G_1 - G_2 is kappa, whatever W is. One trainable number, and nothing is assumed but continuity.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ncsim.statistics.arguments import below_infinity, finite, numbers, one_number, whole

#: Where a density is below this share of its largest value, nothing is estimated.
THIN = 1e-3
#: Of the polynomial in the exponent that is fitted to samples.
DEGREE = 8


class Fluid(NamedTuple):
    """One ensemble at one time, on a grid of G points of one trainable number q.

    Attributes:
        grid: q, float64[G], evenly spaced.
        density: p, float64[G], per unit of q.
        velocity: v of the current, float64[G], q per unit of time.
        acceleration: dv/dt + v v', float64[G].
        quantum_force: G, the derivative of sqrt(p)'' / sqrt(p), float64[G].

    Example:
        >>> import numpy as np
        >>> grid = np.linspace(-8, 8, 801)
        >>> spread = np.sqrt(1 + 0.4 * np.array([0.98, 0.99, 1.0, 1.01, 1.02]))[:, None]  # diffusion, D = 0.2, around t = 1
        >>> found = fluid(grid, -0.5 * (grid / spread) ** 2, 0.01)
        >>> middle = abs(found.grid) < 2
        >>> round(float(np.polyfit(found.quantum_force[middle], found.acceleration[middle], 1)[0]), 4)  # -2 D^2
        -0.08
    """

    grid: np.ndarray
    density: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    quantum_force: np.ndarray


@np.errstate(under="ignore")
def fluid(grid: Float[np.ndarray, " G"], log_density: Float[np.ndarray, "5 G"], step: float) -> Fluid:
    """Velocity, acceleration and quantum force from densities at five times.

    Args:
        grid: evenly spaced q that holds nearly all of the density.
        log_density: ln p at times t - 2 h, t - h, t, t + h and t + 2 h, up to a constant; minus infinity where there is none.
        step: h, above 0.

    Returns:
        The fluid at t. v = -d CDF/dt / p, by continuity alone (Madelung 1927).

    Raises:
        ValueError: other shapes, a grid that is not even, a step that is not finite and above 0, or logarithms that are no real numbers
            below infinity, or minus infinity at all points of a time.

    Example:
        >>> grid = np.linspace(-6, 6, 601)
        >>> moved = grid - np.array([-0.02, -0.01, 0.0, 0.01, 0.02])[:, None]  # moves at speed 1, and keeps its shape
        >>> found = fluid(grid, -0.5 * moved**2, 0.01)
        >>> float(found.velocity[300].round(3)), float(abs(found.acceleration[200:401]).max().round(2))
        (1.0, 0.0)
    """
    grid, logs, step = numbers("grid", grid), below_infinity("log_density", log_density), finite("step", step, above=0)
    if grid.ndim != 1 or logs.shape != (5, len(grid)) or len(grid) < 9:
        raise ValueError(f"log_density: shape {logs.shape}; allowed: [5, G], G being that of the grid, 9 or more")
    width = _spacing(grid)
    density = np.exp(logs - _largest(logs))
    density /= density.sum(axis=1, keepdims=True) * width
    # The current at t - h, t and t + h, by continuity: dJ/dq = -dp/dt.
    change = (density[2:] - density[:-2]) / (2 * step)
    current = -(np.cumsum(change, axis=1) - change / 2) * width
    velocity = current / np.maximum(density[1:-1], 1e-150)  # whose square a float can divide by
    acceleration = (velocity[2] - velocity[0]) / (2 * step) + velocity[1] * np.gradient(velocity[1], width)
    slope = _slope(logs[2], width)
    potential = np.gradient(slope, width) / 2 + slope**2 / 4  # sqrt(p)'' / sqrt(p)
    return Fluid(grid, density[2], velocity[1], acceleration, np.gradient(potential, width))


def _largest(logs: np.ndarray) -> np.ndarray:
    """Of logarithms [..., G] the largest, [..., 1]. Raises ValueError where there is none."""
    largest = logs.max(axis=-1, keepdims=True, initial=-np.inf)
    if not np.isfinite(largest).all():
        raise ValueError("log_density: minus infinity everywhere; allowed: a density above 0 somewhere on the grid")
    return np.asarray(largest)


def _slope(logs: np.ndarray, width: float) -> np.ndarray:
    """d ln p / dq, [G]. Next to points without density it is from the other side alone; 0 between two of them, and on them."""
    with np.errstate(invalid="ignore"):  # infinity less itself
        slope, steps = np.gradient(logs, width), np.diff(logs) / width
    steps = np.where(np.isfinite(steps), steps, np.nan)
    before, after = np.append(np.nan, steps), np.append(steps, np.nan)
    one_sided = np.where(np.isfinite(before), before, np.where(np.isfinite(after), after, 0.0))
    return np.where(np.isfinite(slope), slope, np.where(np.isfinite(logs), one_sided, 0.0))


def _spacing(grid: np.ndarray) -> float:
    """The distance of neighbours on a grid. Raises ValueError."""
    spacing = np.diff(grid)
    if len(spacing) == 0 or not np.allclose(spacing, spacing[0], rtol=1e-6) or not spacing[0] > 0:
        raise ValueError("grid: its points are not evenly spaced upwards; allowed: as numpy.linspace gives them")
    return float(spacing[0])


class Madelung(NamedTuple):
    """The constant before the quantum force, from two ensembles at one time.

    Attributes:
        kappa: slope of A_1 - A_2 on G_1 - G_2; hbar^2 / 2 m^2 where Schroedinger's equation holds, -2 D^2 where learning is by a
            gradient with white noise, 0 without noise.
        residual: share of A_1 - A_2, by its root mean square, that the slope does not explain; 0 to 1.
        weight: share of both ensembles' density in which it was looked at.

    Example:
        >>> import numpy as np
        >>> grid = np.linspace(-9, 9, 1201)
        >>> times = 1 + np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
        >>> packets = [-0.5 * grid**2 / (start + 0.4 * times[:, None]) for start in (1.0, 2.0)]  # diffusion, D = 0.2
        >>> round(madelung(*(fluid(grid, packet, 0.01) for packet in packets)).kappa, 3)
        -0.08
    """

    kappa: float
    residual: float
    weight: float


def madelung(first: Fluid, second: Fluid, thin: float = THIN) -> Madelung:
    """kappa from two ensembles that differ in their start alone, at the same time on the same grid.

    Args:
        first: one ensemble.
        second: the other.
        thin: points where either density is below this share of its largest value are left out.

    Returns:
        See `Madelung`. Least squares, weighted with the geometric mean of both densities; no constant is fitted, since the potential
        cancels. Source of the equation: Madelung 1927; of the claim, arXiv:2012.05082.

    Raises:
        ValueError: grids that differ, ensembles that have nothing in common or are the same, or a share that is none.

    Example:
        >>> import numpy as np
        >>> grid = np.linspace(-9, 9, 1201)
        >>> still = fluid(grid, np.tile(-0.5 * grid**2, (5, 1)), 0.01)
        >>> moving = fluid(grid, -0.5 * (grid - np.arange(-2, 3)[:, None] * 0.01) ** 2 / 1.5, 0.01)
        >>> abs(madelung(still, moving).kappa) < 1e-3  # neither of them accelerates
        True
    """
    thin = one_number("thin", thin)
    if not 0 <= thin < 1:
        raise ValueError(f"thin: {thin:g}; allowed: 0 or above, below 1")
    if first.grid.shape != second.grid.shape or not np.allclose(first.grid, second.grid):
        raise ValueError("second: another grid than the first's; allowed: the same")
    there = (first.density > thin * first.density.max()) & (second.density > thin * second.density.max())
    there[:4] = there[-4:] = False  # one-sided derivatives
    force = (first.quantum_force - second.quantum_force)[there]
    wanted = (first.acceleration - second.acceleration)[there]
    weight = np.sqrt(first.density * second.density)[there]
    square = float(weight @ force**2)
    if not np.sum(there) > 8 or square == 0:
        raise ValueError("second: nothing in common with the first, or the same; allowed: overlapping, another start")
    kappa = float(weight @ (force * wanted)) / square
    total = float(weight @ wanted**2)
    left = float(weight @ (wanted - kappa * force) ** 2)
    residual = float(np.sqrt(left / total)) if total > 0 else 0.0
    share = min(float(each.density[there].sum() / each.density.sum()) for each in (first, second))
    return Madelung(kappa, residual, share)


@np.errstate(under="ignore")
def fitted_log_density(
    samples: Float[np.ndarray, " N"], grid: Float[np.ndarray, " G"], degree: int = DEGREE
) -> Float[np.ndarray, " G"]:
    """ln of the density that samples come from, as a polynomial: the exponential family of maximum likelihood.

    Args:
        samples: one number a member.
        grid: where it is wanted, evenly spaced; the density is 0 outside.
        degree: of the polynomial, 1 or more.

    Returns:
        ln p on the grid. All that enters of the samples is their first `degree` moments (Barron and Sheu 1991).

    Raises:
        ValueError: samples outside the grid or too few, not finite or all the same, a grid that is not even, a degree that is no
            whole number, or a fit that does not converge.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> grid = np.linspace(-6, 6, 601)
        >>> found = fitted_log_density(rng.normal(size=100_000), grid, degree=2)
        >>> float(np.exp(found[300]).round(2)), float((found[300] - found[350]).round(1))
        (0.4, 0.5)
    """
    samples, grid, degree = numbers("samples", samples), numbers("grid", grid), whole("degree", degree, 1)
    if samples.ndim != 1 or grid.ndim != 1:
        raise ValueError(f"samples, grid: shapes {samples.shape}, {grid.shape}; allowed: one axis each")
    width = _spacing(grid)
    if len(samples) <= degree or samples.min() < grid[0] or samples.max() > grid[-1]:
        raise ValueError("samples: too few, or outside the grid; allowed: more than the degree, all of them within it")
    if not samples.min() < samples.max():  # NaN is neither
        raise ValueError("samples: all the same, or not all finite; allowed: finite ones of two values or more")
    middle, scale = samples.mean(), max(samples.std(), 1e-300)
    moments = np.array([np.mean(row) for row in _powers((samples - middle) / scale, degree)])
    basis = _powers((grid - middle) / scale, degree)
    # Orthogonal where the samples are, or Newton's matrix is singular.
    start = -((grid - middle) ** 2) / (2 * scale**2)
    weight = np.exp(start - start.max())
    change = np.linalg.inv(np.linalg.cholesky((basis * weight) @ basis.T / weight.sum() + 1e-12 * np.eye(degree)))
    basis, moments = change @ basis, change @ moments
    # From degree 2 on the start is of the family. Of degree 1 it would stay in what is found.
    return _newton(basis, moments, start if degree > 1 else np.zeros_like(start), width)


def _powers(values: np.ndarray, degree: int) -> np.ndarray:
    """Hermite polynomials of orders 1 to `degree`, each over the root of its square's mean, [degree, N]."""
    rows = [np.ones_like(values), values]
    for order in range(1, degree):
        rows.append((values * rows[order] - np.sqrt(order) * rows[order - 1]) / np.sqrt(order + 1))
    return np.stack(rows[1 : degree + 1])


def _newton(basis: np.ndarray, moments: np.ndarray, start: np.ndarray, width: float) -> np.ndarray:
    """ln p = start + c . basis - ln Z whose means of the basis are the moments: a convex problem, solved by damped Newton steps."""

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logs = start + parameters @ basis
        top = logs.max()
        weight = np.exp(logs - top)
        return float(np.log(weight.sum() * width) + top - parameters @ moments), weight / weight.sum()

    parameters = np.zeros(len(basis))
    value, share = objective(parameters)
    for _ in range(200):
        means = basis @ share
        gradient = means - moments
        if np.max(np.abs(gradient)) < 1e-10:
            logs = start + parameters @ basis
            return np.asarray(logs - logs.max() - np.log(np.exp(logs - logs.max()).sum() * width))
        hessian = (basis * share) @ basis.T - np.outer(means, means)
        try:
            move = np.linalg.solve(hessian + 1e-14 * np.eye(len(basis)), -gradient)
        except np.linalg.LinAlgError:
            break
        # Near the end what a step gains is less than the rounding of its value, and would be halved for ever.
        size, rounding = 1.0, 1e-13 * max(1.0, abs(value), float(np.abs(parameters) @ np.abs(moments)))
        most = value + rounding
        while (new := objective(parameters + size * move))[0] > most + 1e-4 * size * gradient @ move and size > 1e-8:
            size /= 2
        parameters = parameters + size * move
        value, share = new
    raise ValueError(
        f"samples: no exponential polynomial of degree {len(basis)} was found with their moments; allowed: a smaller degree"
    )


class EntropyBalance(NamedTuple):
    """Rates of an ensemble's entropy in nats per unit of time.

    Attributes:
        production: D <|grad ln p|^2>, by noise; 0 or above.
        destruction: -gamma <lap F>, by learning; below 0 near minima.
        rate: their sum, dS/dt.

    Example:
        >>> import numpy as np
        >>> grid = np.linspace(-8, 8, 801)
        >>> entropy_balance(grid, -0.5 * grid**2, np.ones(801), diffusion=0.5, speed=0.5).rate.__round__(6)  # at equilibrium
        -0.0
    """

    production: float
    destruction: float
    rate: float


@np.errstate(under="ignore")
def entropy_balance(
    grid: Float[np.ndarray, " G"],
    log_density: Float[np.ndarray, " G"],
    laplacian: Float[np.ndarray, " G"],
    diffusion: float,
    speed: float,
) -> EntropyBalance:
    """What noise makes of entropy and what learning takes of it, dp/dt = D p'' + gamma (F' p)'.

    Args:
        grid: evenly spaced, of one trainable number.
        log_density: ln p up to a constant; minus infinity where there is none.
        laplacian: F'' on the grid.
        diffusion: D.
        speed: gamma, the learning rate per unit of time.

    Returns:
        Both rates and their sum. At learning equilibrium they add up to 0 (arXiv:2004.09280, section 8). For any density
        that has become stationary this is an identity and no finding.

    Raises:
        ValueError: arrays of other lengths than the grid's, a grid that is not even, no density at all, or what are no real numbers.

    Example:
        >>> grid = np.linspace(-8, 8, 801)
        >>> found = entropy_balance(grid, -0.5 * grid**2, np.ones(801), diffusion=0.2, speed=0.5)
        >>> round(found.production, 3), round(found.destruction, 3)
        (0.2, -0.5)
    """
    grid, logs, curved = (
        numbers("grid", grid),
        below_infinity("log_density", log_density),
        numbers("laplacian", laplacian),
    )
    diffusion, speed = finite("diffusion", diffusion), finite("speed", speed)
    if grid.ndim != 1 or not logs.shape == curved.shape == grid.shape:
        raise ValueError(f"laplacian: shape {curved.shape}; allowed: that of the grid, {grid.shape}, as of log_density")
    width = _spacing(grid)
    density = np.exp(logs - _largest(logs))
    density /= density.sum()
    slope = _slope(logs, width)
    production = float(diffusion * density @ slope**2)
    destruction = float(-speed * density @ curved)
    return EntropyBalance(production, destruction, production + destruction)


def circulation(drift: Any, loops: Float[np.ndarray, "loops P R"]) -> Float[np.ndarray, " loops"]:
    """The integral of a drift around closed loops: 0 for a gradient, whatever its function is.

    Args:
        drift: takes points [loops * P, R] and gives vectors of that shape.
        loops: P points around each of the loops in R parameters; the last is joined to the first.

    Returns:
        One number a loop, by the midpoint rule on each edge. Quantised circulation is what Takabayasi 1952 and Wallstrom
        1994 demand of Madelung's fluid.

    Raises:
        ValueError: loops that have not three axes, or vectors of another shape than the points.

    Example:
        >>> import numpy as np
        >>> angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
        >>> circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)[None]
        >>> turning = circulation(lambda q: np.stack([-q[:, 1], q[:, 0]], axis=1), circle)  # 2 pi
        >>> falling = circulation(lambda q: -4 * q**3, circle)
        >>> float(turning[0].round(2)), bool(abs(falling[0]) < 1e-9)
        (6.28, True)
    """
    loops = numbers("loops", loops)
    if loops.ndim != 3:
        raise ValueError(f"loops: shape {loops.shape}; allowed: [loops, points, parameters]")
    edges = np.roll(loops, -1, axis=1) - loops
    middle = loops + edges / 2
    points = middle.reshape(-1, loops.shape[-1])
    vectors = numbers("drift", drift(points))
    if vectors.shape != points.shape:  # of which a turned one has as many numbers, in another order
        raise ValueError(f"drift: gives shape {vectors.shape}; allowed: {points.shape}, that of the points")
    return np.asarray(np.sum(vectors.reshape(middle.shape) * edges, axis=(1, 2)))
