# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A4 · The dictionary
#
# Below is the circle of lesson 00 again, with its network's place in the plane of weight scale $\sigma_w$ and bias scale $\sigma_b$. Click into the plane, or move its two
# sliders. Where the plane is blue the circle shrinks, where it is orange it turns to wool; the gradient does the same, backwards.
# **Why do a circle that travels forwards and a gradient that travels backwards obey one number?**

# %% tags=["figure"] mystnb={"image": {"alt": "Four panels for a chosen weight and bias scale: the phase diagram with the chosen point, the image of a circle, the histogram of log singular values, and the squared gradient by layer beside a straight line."}}
from functools import partial

import torch

from labkit import Chain
from labkit.geometry.curvature import curve_geometry
from labkit.geometry.spectra import log_spectrum
from labkit.lessons import check, claim, explore, hint, predict
from labkit.lessons import progress, setup, solution
from labkit.networks import mlp
from labkit.plots import propagation
from labkit.theory import meanfield
from labkit.training import datasets
from labkit.training.ensemble import depth_at, train_scales

explore("A4")

# %% [markdown]
# | | |
# |---|---|
# | **You will be able to** | step a length through a layer (A4.1) · read $\chi_1$ off a Jacobian (A4.2) · find the critical scale (A4.3) · say how deep a signal lives (A4.4) · translate between signal propagation and geometry |
# | **Time** | 70 minutes; `full` is estimated at 10 to 15 minutes |
# | **You need** | A1, the chain; A2, the metric; the normal distribution |
# | **Sources** | Poole et al. 2016; Schoenholz et al. 2017; Roberts, Yaida & Hanin 2022; Di Lillo et al. 2025 |

# %% tags=["parameters"]
profile: str = "fast"     # "full": more networks, a finer heat map
nets: int = 6             # networks behind every interval
depth: int = 8            # layers that the circle passes, at least 4
width: int = 1000         # units of a layer
activation: str = "tanh"  # smooth, with a critical point at σ_b = 0.3
deepest: int = 80         # layers of the deepest trained network
seed: int = 0             # of all random numbers
device: str = "cpu"       # "cuda" on a machine with an NVIDIA GPU

# %%
full = setup(profile, seed, device)
torch.set_default_dtype(torch.float64)
repeats = 3 * nets if full else nets
sigma_b = 0.3
edge = meanfield.critical_line(activation, sigma_b).item()
scales = {"ordered": edge / 1.4, "critical": edge,
          "chaotic": 1.8 * edge}
print(*(f"{phase}: σ_w = {s:.2f}" for phase, s in scales.items()))

def build(phase, k, layers=depth, n=width):
    """The k-th network of a phase."""
    return mlp(layers, n, activation, scales[phase], sigma_b,
               seed=seed + k, device=device).requires_grad_(False)

# %% [markdown]
# **Predict.** Take the critical network, where the circle keeps its length. Cut it after five layers and look at all singular values of $Df$ at one point of the
# sphere $|h|^2 = nq^*$. An isometry has only ones. How large is the largest here?

# %%
my_guess = None           # a positive number; 1 means isometry
predict("A4.p1", my_guess)

# %% [markdown]
# ## The idea in one picture
#
# A layer is $h \mapsto W\varphi(h) + b$, with $W_{ij} \sim N(0, \sigma_w^2/n)$ and $b_i \sim N(0, \sigma_b^2)$. If it is wide and $h$ has Gaussian coordinates, as after any layer, two numbers describe a pair: their **squared length** $q = |h|^2/n$ and
# their cosine $c$. One layer sends each to a new value, by a map of an interval. Iterate it on paper: start anywhere, go up to the line, across to the diagonal, and again. Where does it end, and how fast?

# %%
theory = {phase: meanfield.MeanField(activation, s, sigma_b)
          for phase, s in scales.items()}
for phase, mf in theory.items():
    print(f"{phase}: q* = {mf.q_star:.3f}, c* = {mf.c_star:.3f}, "
          f"χ₁ = {mf.chi_1:.3f}, ξ_c = {mf.xi_c:.2f}")

# %% tags=["figure"] mystnb={"image": {"alt": "Two maps of an interval with the diagonal dotted. The length map crosses the diagonal once in each phase; the correlation map ends at one, flatter than the diagonal in the ordered phase, tangent at criticality, steeper in the chaotic phase. Points of one network lie on the lines."}}
q, c = torch.linspace(0, 6, 61), torch.linspace(0, 1, 61)
frame = torch.linalg.qr(torch.randn(width, 2, device=device)).Q
u, v = frame.mT * width**0.5              # orthogonal, |u|²/n = 1
lengths, angles = {}, {}
for phase, mf in theory.items():
    layer = build(phase, 0, layers=1)
    at, tilt = q[5::10, None], c[5::10, None]
    after = layer(at.sqrt() * u).square().mean(1)
    pair = mf.q_star.sqrt() * (tilt * u + (1 - tilt**2).sqrt() * v)
    one, other = layer(mf.q_star.sqrt() * u[None]), layer(pair)
    cosine = torch.cosine_similarity(one, other)
    lengths[phase] = (q, mf.q_map(q), at[:, 0], after)
    angles[phase] = (c, mf.c_map(c), tilt[:, 0], cosine)
propagation.maps(lengths, angles, "The right map's slope at c = 1 tells"
                 " the phases apart")

# %% [markdown] tags=["reads"]
# Left, every length ends where its line meets the diagonal: at 0.274, 0.763 or 4.129. Right, all lines end at $C(1) = 1$, equal inputs stay equal. What differs is the slope there, 0.697, 1.000 or 1.591. Below 1
# near inputs approach each other and in the end are one; at 1 they keep their distance for long, since nothing of first order moves them; above 1 they part, until their cosine is 0.120. One network of 1,000 units, the points, follows closely.

# %% [markdown]
# ## The statement
#
# Let $z_1, z_2$ be standard normal with correlation $c$. As $n \to \infty$, for $\varphi$ with at most linear growth, one layer sends squared length $q$ to $V(q)$ and, at $q^*$, cosine $c$ to $C(c)$:
#
# $$V(q) = \sigma_w^2\,\mathbb E\,\varphi(\sqrt q\,z_1)^2 + \sigma_b^2, \qquad C(c) = \frac{\sigma_w^2\,\mathbb E\,\varphi(\sqrt{q^*}z_1)\,\varphi(\sqrt{q^*}z_2) + \sigma_b^2}{q^*},$$
#
# where $V(q^*) = q^*$. Always $C(1) = 1$. If moreover $\varphi$ is locally absolutely continuous with $\mathbb E\varphi'^2 < \infty$, then
#
# $$\chi_1 := C'(1) = \sigma_w^2\,\mathbb E\,\varphi'(\sqrt{q^*} z)^2 = \lim_{n\to\infty} \tfrac1n \|J\|_F^2,$$
#
# $J = W \operatorname{diag}\varphi'(h)$ being the layer's Jacobian: **$\chi_1$ is its mean squared singular value.**

# %% [markdown]
# *Sketch.* Given $h$, the entries of $W\varphi(h)$ are independent Gaussians, so sums over units become expectations. Differentiating $\mathbb E\varphi\varphi$ in $c$ moves the derivative onto both
# factors (Price's theorem). And $\frac1n\|W D\|_F^2 = \sum_j (\frac1n \sum_i W_{ij}^2)\,\varphi'(h_j)^2 \to \sigma_w^2\,\mathbb E\varphi'^2$. $\square$
#
# A tangent $t$ of the circle, orthogonal to $h$ and so independent of $\varphi'(h)$, has $\mathbb E|Jt|^2 = \chi_1|t|^2$; an independent gradient $s$ has $\mathbb E|J^\top s|^2 = \chi_1|s|^2$. That answers the
# opening question.
#
# *What it needs.* A stable $q^*$; width to infinity before depth; backwards, a gradient independent of the weights. It speaks of mean squares only.

# %% [markdown]
# ## Exercise A4.1 · one step of lengths
#
# Write `next_length(phi, sigma_w, sigma_b, q)`. `phi` acts on tensors; two per cent are exact enough, so draw samples or sum over a grid, as you
# like. Mind which of the letters are standard deviations and which are variances: half of all slips in this subject are there.

# %% tags=["exercise"]
def next_length(phi, sigma_w, sigma_b, q):
    """V(q): the length after one more layer, a number."""
    ...

check("A4.1", next_length)
# hint("A4.1")      # without the "#": a rung of the ladder
# solution("A4.1")  # after you have tried

# %% [markdown]
# ## Six activations against the theory
#
# Put 100 inputs of length 1 into networks of 1,000 units, in pairs with cosine ½, and follow length and cosine for five layers. Where is the theory more than one per cent
# off? ($\pm$ is four standard errors, here and below.)

# %%
kinds = {"tanh": (2.5, 0.3), "erf": (2.5, 0.3), "hardtanh": (2.5, 0.3),
         "relu": (2**0.5, 0.0), "gelu": (1.2, 0.3), "silu": (1.2, 0.3)}
a = torch.nn.functional.normalize(torch.randn(2, 50, width), dim=2)
b = a[1] - (a[0] * a[1]).sum(1, keepdim=True) * a[0]
b = torch.nn.functional.normalize(b) * 0.75**0.5 + a[0] / 2
inputs = (torch.cat([a[0], b]) * width**0.5).to(device)
seen = {name: [] for name in kinds}
for name, (s, bias) in kinds.items():
    for k in range(repeats):
        h = mlp(5, width, name, s, bias, seed=seed + k,
                device=device).requires_grad_(False)(inputs)
        cos = torch.cosine_similarity(h[:50], h[50:]).mean()
        seen[name].append(torch.stack([h.square().mean(), cos]).cpu())

# %%
for name, (s, bias) in kinds.items():
    mf = meanfield.MeanField(name, s, bias)
    q5 = mf.q_trajectory(1.0, 5)[-1]
    c5 = mf.c_trajectory(0.5, 5, q0=1.0)[-1]
    found = torch.stack(seen[name])
    print(f"{name}: predicted q₅ {q5:.3f}, c₅ {c5:.3f}; "
          f"measured c₅ {found[:, 1].mean():.3f}")
    claim(f"A4.c1 {name}", found[:, 0] / q5, predicted=1)
    if name in ("tanh", "erf", "hardtanh"):
        claim(f"A4.c2 {name}", found[:, 1], predicted=c5)

# %% [markdown] tags=["reads"]
# Nowhere that can be seen. Saturating activations hold their lengths: tanh within $1.0000 \pm 0.0099$ of the prediction. ReLU's mean is right too, but the interval is wide, $0.98 \pm 0.27$: at $\sigma_w^2 = 2$ every length is a fixed point, nothing
# pulls a network back, and the chances of all layers multiply. ReLU, GELU and SiLU do not test the one per cent. Angles agree everywhere, also ReLU's (0.804 against 0.810). It has no chaotic phase: its normalised cosine always flows to 1.

# %% [markdown]
# ## The circle through depth
#
# Back to the circle, of radius $\sqrt{n q^*}$. For each network keep, layer by layer: its squared speed $\bar g = g/n$, its squared curvature $\bar\kappa^2 = n\kappa^2$, the number of zeros that
# one unit has along it, and $1 - c$ for two neighbouring points.

# %%
def ring(t, q=1.0):
    """Points of the great circle |h|² = n q at the angles t."""
    unit = torch.cat([t.cos(), t.sin()], 1)
    return (width * q)**0.5 * unit @ frame.mT

turn = torch.linspace(0, 2 * torch.pi, 257, device=device)[:-1, None]
circle = {phase: partial(ring, q=mf.q_star.item())
          for phase, mf in theory.items()}

# %%
names = ("speed", "curvature", "zeros", "gap")
runs = {name: {phase: [] for phase in theory} for name in names}
for phase in theory:
    for k in range(repeats):
        net = build(phase, k)
        jets = Chain([circle[phase], *net]).jets(turn[::16])
        made = [curve_geometry(jet) for jet in jets][1:]
        h = torch.stack(net.states(circle[phase](turn)))
        flips = (h > 0) != (h.roll(-1, 1) > 0)
        near = torch.cosine_similarity(h, h.roll(-8, 1), dim=2)
        for name, row in zip(names, (
                torch.stack([m.speed for m in made]).square(
                    ).mean(1).detach() / width,
                torch.stack([m.curvature for m in made]).square(
                    ).mean(1).detach() * width,
                flips.double().sum(1).mean(1), 1 - near.mean(1))):
            runs[name][phase].append(row.cpu())
runs = {name: {p: torch.stack(r) for p, r in by.items()}
        for name, by in runs.items()}

# %% tags=["figure"] mystnb={"image": {"alt": "Squared speed and squared curvature of the circle against depth on logarithmic axes, three phases each. Speed falls, stays or grows; curvature grows most in the ordered phase and levels off in the chaotic one. Points lie on predicted lines."}}
paths = {phase: mf.circle(depth + 1) for phase, mf in theory.items()}
chaotic = runs["speed"]["chaotic"]
for phase, by in runs["speed"].items():
    growth = (by[:, -1] / by[:, 0]) ** (1 / depth)
    claim(f"A4.c3 {phase}", growth, predicted=theory[phase].chi_1)
bend = runs["curvature"]["chaotic"] / paths["chaotic"].curvature
claim("A4.c4", bend[:, 5 if depth > 4 else 4], predicted=1)
propagation.through_depth(
    {"squared speed $\\bar g$": {p: (runs["speed"][p], paths[p].speed)
                             for p in paths},
     "squared curvature $\\bar\\kappa^2$": {
         p: (runs["curvature"][p], paths[p].curvature) for p in paths}},
    "The circle's squared length follows $\\chi_1$;"
    " its curvature does not")

# %% [markdown] tags=["reads"]
# A layer multiplies the metric on the circle by $0.696 \pm 0.013$, $1.003 \pm 0.013$ or $1.5953 \pm 0.0090$: $\bar g_l = \chi_1\,\bar g_{l-1}$. "Ordered" means that $g$ contracts, "chaotic" that it expands. Curvature obeys Poole's other recursion,
# $\bar\kappa_l^2 = 3\chi_2/\chi_1^2 + \bar\kappa_{l-1}^2/\chi_1$ with $\chi_2 = \sigma_w^2\,\mathbb E(\varphi'')^2$ (at depth 5 the ratio is $1.03 \pm 0.12$). The *ordered* circle is the most curved, because it is so small; curvature times length, the total turning, is bounded in order, grows like $\sqrt l$ at the edge, exponentially in chaos.

# %% [markdown]
# ## Zeros and angles
#
# Let one unit be a readout. Along the circle it is a Gaussian process with covariance $q^*C_l(\cos\theta)$, $C_l$ the $l$-fold iterate, so by Rice's formula it vanishes $2\chi_1^{l/2}$ times in the mean, in all
# three phases. And $1 - c_l$, for two points close by, says when they are indistinguishable.

# %% tags=["figure"] mystnb={"image": {"alt": "Zeros of a unit along the circle and one minus the cosine of two neighbours against depth, three phases each: falling, level, rising. Points on predicted lines."}}
zeros = {p: 2 * mf.chi_1 ** (torch.arange(depth + 1) / 2)
         for p, mf in theory.items()}
near = torch.cos(turn[8, 0]).cpu()
gaps = {p: 1 - mf.c_trajectory(near, depth) for p, mf in theory.items()}
for phase, by in runs["zeros"].items():
    claim(f"A4.c5 {phase}", by[:, -1] / zeros[phase][-1], predicted=1)
propagation.through_depth(
    {"zeros of a unit": {p: (runs["zeros"][p], zeros[p])
                         for p in zeros},
     "$1 - c$ of two neighbours": {p: (runs["gap"][p], gaps[p])
                                   for p in gaps}},
    "A readout vanishes $2\\chi_1^{l/2}$ times; neighbours merge"
    " or part")

# %%
mf, by = theory["ordered"], runs["gap"]["ordered"]
rate = (by[:, 4] / by[:, -1]).log() / (depth - 4)
print(f"ordered: 1/ξ_c predicted {1 / mf.xi_c:.3f}, "
      f"measured {rate.mean():.3f} ± "
      f"{4 * rate.std() / repeats**0.5:.3f}")
apart = 1 - torch.cos(turn[8, 0]).item()
print(f"gap {apart:.4f} now; below 6e-8 after "
      f"{mf.xi_c * torch.tensor(apart / 6e-8).log():.0f} layers")

# %% [markdown] tags=["reads"]
# The zeros are as many as predicted: ratios $1.02 \pm 0.16$, $1.010 \pm 0.049$, $0.988 \pm 0.035$. And $c_l - c^* \sim e^{-l/\xi_c}$ defines the depth scale $\xi_c = -1/\log C'(c^*)$, in order $-1/\log\chi_1$: the gap of 0.0192 shrinks at a rate of $0.357 \pm 0.036$, predicted
# 0.361. After 35 layers a 32-bit cosine is 1; the states themselves need about twice as many.

# %% [markdown]
# ## Exercise A4.2 · χ₁ from one Jacobian
#
# Write `mean_square(J)`: the mean of the squared singular values of `J`, $n \times n$. You need no decomposition.

# %% tags=["exercise"]
def mean_square(J):
    """Mean squared singular value of a square Jacobian."""
    ...

check("A4.2", mean_square)   # stuck? hint("A4.2"), solution("A4.2")

# %% [markdown]
# ## Gradients: the same number, backwards
#
# Draw a random gradient at the last layer and pull it back through each layer. The log of its *mean squared* norm should have slope $-\log\chi_1$ against depth. (The log of the norm has half of
# that.)

# %% tags=["figure"] mystnb={"image": {"alt": "Mean squared gradient norm against layers back from the output, on a logarithmic axis: it falls in the ordered phase, is level at criticality and grows in the chaotic phase."}}
backward = {phase: [] for phase in theory}
for phase in theory:
    for k in range(repeats):
        net = build(phase, k)
        x = circle[phase](turn[::16]).requires_grad_()
        h = net.states(x)
        grads = torch.autograd.grad(h[-1], h, torch.randn_like(h[-1]))
        size = torch.stack([g.square().sum(1).mean() for g in grads])
        backward[phase].append((size / size[-1]).cpu())
backward = {p: torch.stack(s) for p, s in backward.items()}
for phase, by in backward.items():
    claim(f"A4.c6 {phase}", by[:, 0].log() / depth,
          predicted=theory[phase].chi_1.log())
back = torch.arange(depth + 1)
propagation.through_depth(
    {"mean squared gradient": {p: (backward[p].flip(1), mf.chi_1**back)
                               for p, mf in theory.items()}},
    "Backwards the same factor: $\\chi_1$ a layer",
    xlabel="layers back from the output")

# %% [markdown] tags=["reads"]
# The slopes are $-0.363 \pm 0.010$, $0.003 \pm 0.018$ and $0.463 \pm 0.013$, where $\log\chi_1$ is $-0.361$, 0.000 and 0.465. Forwards and backwards the same number, because a matrix and its transpose have the same singular values. A
# single network's slope is off by about a hundredth.

# %% [markdown]
# ## Exercise A4.3 · the critical scale
#
# Write `critical(chi, low, high)`: `chi` is an increasing function with `chi(low) < 1 < chi(high)`. Return where it is 1. Halving the interval again and again
# will do.

# %% tags=["exercise"]
def critical(chi, low, high):
    """The σ_w between low and high at which chi(σ_w) = 1."""
    ...

check("A4.3", critical)   # stuck? hint("A4.3"), solution("A4.3")

# %% [markdown]
# ## Which activations have a critical line?
#
# The equations $\chi_1 = 1$ and $V(q) = q$ fix $\sigma_w$ and $\sigma_b$; as $q$ varies, the critical line follows. Is there one for GELU and SiLU?

# %% tags=["figure"] mystnb={"image": {"alt": "Critical weight scale against bias scale. Tanh, erf and hardtanh rise from zero bias; GELU and SiLU are nearly level and begin at circles at larger bias; ReLU is a single point at zero bias and root two."}}
grid, lines, ends = torch.linspace(0, 1.2, 61), {}, []
for name in kinds:
    at = grid[:1] if name == "relu" else grid
    line = meanfield.critical_line(name, at)
    ok = line.isfinite()
    lines[name] = (at[ok], line[ok])
for name in ("gelu", "silu"):
    end = meanfield.half_stable_ends(name)
    print(f"{name}: begins at q* = {end.q[0]:.3f}, "
          f"σ_b = {end.sigma_b[0]:.4f}, σ_w = {end.sigma_w[0]:.4f}")
    ends.append(torch.cat([end.sigma_b, end.sigma_w]))
    lines[name] = [torch.cat([at, more]) for at, more in zip(
        (end.sigma_b, end.sigma_w), lines[name])]
propagation.critical_lines(lines, "GELU and SiLU have critical lines,"
                           " ReLU a point", ends=torch.stack(ends))

# %% [markdown] tags=["reads"]
# They exist. The stable part of GELU's begins at $q^* = 3.562$ with $\sigma_b = 0.4158$, SiLU's at 14.320 with $\sigma_b = 0.7451$, circles in the picture. There $V' = 1$ too; before it $V' > 1$, and no network keeps that length. And "He's $\sigma_w^2 = 2$" is no critical point for them at small lengths: the slope at 0 is ½, so $\chi_1 \to \sigma_w^2/4 = ½$ as
# $q \to 0$. Is a network on that line critical? Measure GELU at $q^* = 8$.

# %%
samples = []
for k in range(repeats):
    end = meanfield.critical_points("gelu", 8.0)
    x = 8**0.5 * width**0.5 * torch.nn.functional.normalize(
        torch.randn(1, width, device=device))
    J = mlp(1, width, "gelu", end.sigma_w.item(), end.sigma_b.item(),
            seed=seed + k, device=device).linearize(x).dense()[0]
    samples.append(J.detach().square().sum() / width)
claim("A4.c7", torch.stack(samples).cpu(), predicted=1)

# %% [markdown] tags=["reads"]
# Yes: $1.028 \pm 0.048$.

# %% [markdown]
# ## Exercise A4.4 · how many layers
#
# Write `layers_until(chi_1, factor)`, $\chi_1 \ne 1$: a step is to become `factor` times as long, in the root mean square. How many layers does that take, as a real number?

# %% tags=["exercise"]
def layers_until(chi_1, factor):
    """Layers after which a small step is factor times as long."""
    ...

check("A4.4", layers_until)   # stuck? hint("A4.4")

# %% [markdown]
# ## Degenerate metrics
#
# The metric is $g = Df^\top Df$, its extreme stretches $\sigma_{\max}$ and $\sigma_{\min}$. Vanishing gradients should mean $\sigma_{\max} \to 0$, exploding ones $\sigma_{\max} \to \infty$. And the distortion $\sigma_{\max}/\sigma_{\min}$,
# on which the inverse depends? Look at all three in networks of 60 units, down to depth 20, with the exact spectrum of A1 that survives such products.

# %%
spectra = {"top": {}, "distortion": {}}
for phase, mf in theory.items():
    x = (60 * mf.q_star.item())**0.5 * torch.nn.functional.normalize(
        torch.randn(1, 60, device=device))
    found = [log_spectrum(build(phase, k, 20, 60).linearize(x),
                          depths=range(21)) for k in range(repeats)]
    spectra["top"][phase] = torch.cat(
        [s.values[..., 0].mT for s in found])
    spectra["distortion"][phase] = torch.cat(
        [s.log_distortion().mT for s in found])
for phase in theory:
    ends = [by[phase][:, -1].mean() for by in spectra.values()]
    print(f"{phase}: log σ_max {ends[0]:.2f}, "
          f"log distortion {ends[1]:.1f}")

# %% tags=["figure"] mystnb={"image": {"alt": "Log of the largest singular value and log distortion against depth to twenty, three phases each. The largest falls, grows slowly, grows fast; the distortion grows in all three."}}
propagation.through_depth(
    {"log $\\sigma_{\\max}$": {p: (s.cpu(), None)
                              for p, s in spectra["top"].items()},
     "log distortion": {p: (s.cpu(), None)
                      for p, s in spectra["distortion"].items()}},
    "$\\sigma_{\\max}$ tells the phases apart; distortion grows in all",
    log=False)

# %% [markdown] tags=["reads"]
# The largest stretch separates the phases: at depth 20 its log is $-2.16$ in the ordered, 1.89 in the critical and 5.92 in the chaotic network. The distortion does not: its log is 65.8, 82.5 and 186.1. With Gaussian weights each layer has some direction that is almost
# lost, so $g$ degenerates in *every* phase, at the edge too. Vanishing, exploding and degenerate are three diseases.

# %% [markdown]
# ## Where it fails
#
# "At $\chi_1 = 1$ the network is an isometry." It is, nearly, for a direction chosen without looking at the weights; singular directions do look. Five critical layers:

# %%
tops, spreads = [], []
mf, n = theory["critical"], width // 2
for k in range(repeats):
    x = (n * mf.q_star.item())**0.5 * torch.nn.functional.normalize(
        torch.randn(1, n, device=device))
    J = build("critical", k, 5, n).linearize(x).dense()[0]
    s = torch.linalg.svdvals(J).cpu()
    tops.append(s[0])
    spreads.append(s.square().var() / s.square().mean()**2)
print(f"5(1 + ι) = {5 * (1 + mf.iota):.2f}")
claim("A4.c8", torch.stack(tops), predicted=1)
claim("A4.c9", torch.stack(spreads), predicted=5 * (1 + mf.iota))

# %% [markdown] tags=["reads"]
# The largest singular value is $4.36 \pm 0.39$, not 1: the saying fails, as it must. With Gaussian weights the relative variance of $\sigma^2$ is $L(1 + \iota)$, $\iota = \mathbb E\varphi'^4/(\mathbb E\varphi'^2)^2 - 1$: here 7.28, measured $7.41 \pm 0.27$. A mean
# square of 1 bounds no distortion. Orthogonal weights remove the 1, linear units the $\iota$.
#
# **Control.** "ReLU networks stretch curves." At $\sigma_w^2 = 2$ they have $\chi_1 = 1$ for every length. Measure the circle's image after all layers.

# %%
ratios = []
for k in range(repeats):
    net = mlp(depth, width, "relu", 2**0.5, 0.0, seed=seed + k,
              device=device).requires_grad_(False)
    walk = net(ring(turn))
    step = (walk.roll(-1, 0) - walk).norm(dim=1).sum()
    ratios.append((step / (2 * torch.pi * width**0.5)).cpu())
claim("A4.c10", torch.stack(ratios), predicted=2)
claim("A4.c11", torch.stack(ratios), predicted=1)

# %% [markdown] tags=["reads"]
# The image is $0.990 \pm 0.082$ times as long: no stretching (Hanin, Jeong & Rolnick 2021; their exact mean at finite width is even slightly below 1). ReLU folds curves; that adds corners, not length.

# %% [markdown]
# ## How deep can a network be trained?
#
# Schoenholz et al. report that networks train up to about $6\,\xi_c$ layers. That is an empirical rule, and it has a reason: beyond a few $\xi_c$ inputs are indistinguishable or unrelated. Does it hold on both sides of the edge? Redo it on digits: tanh networks of 64 units, $\sigma_b^2 = 0.05$, plain SGD
# with momentum for fifteen epochs.

# %% tags=["figure"] mystnb={"image": {"alt": "Heat map of test accuracy over depth and squared weight scale with the curve six times xi c. Cells below the curve are mostly bright, those above dark, with the highest bright column near the critical scale, where the curve leaves the picture."}}
digits = datasets.digits(dtype=torch.float32, device=device)
squared = torch.linspace(1, 3, 11 if full else 5)
depths = [d for d in (5, 10, 20, 40, 80) if d <= deepest]
accuracy = torch.stack([torch.stack([
    train_scales(digits, L, 64, "tanh", squared.sqrt(), 0.05**0.5,
                 epochs=15, lr=2e-3, batch_size=128, seed=seed + k)
    for L in depths]) for k in range(3 if full else 1)]).mean(0).cpu()
xi = meanfield.MeanField("tanh", squared.sqrt(), 0.05**0.5).xi_c
off = (squared - 1.76).abs() > 0.25     # away from the critical scale
last = depth_at(accuracy, depths, 0.55)
print("trained to:", *(f"{d:.0f}" for d in last))
print("6 ξ_c:     ", *(f"{6 * d:.0f}" for d in xi))
claim("A4.c12", (last / (6 * xi))[off].log2(), predicted=0)
fine = torch.linspace(1, 3, 401)
scale = 6 * meanfield.MeanField("tanh", fine.sqrt(), 0.05**0.5).xi_c
propagation.heat(accuracy, depths, squared,
                 (fine, scale, "$6\\,\\xi_c$"),
                 "Deep networks train near the critical scale",
                 mark=(1.76, "edge"),
                 note="Computed now; tanh, 64 units, fifteen epochs.")

# %% [markdown] tags=["reads"]
# Away from the edge the depth at which accuracy falls through 55 % is $6\,\xi_c$ within a factor of two, somewhat below it: the $\log_2$ of the quotient is $-0.34 \pm 0.33$. The $\pm$ is over four columns that share one seed, not over independent networks, and rows a factor of two apart resolve no more. Near the edge the rule promises far more than fifteen epochs deliver.
#
# Rate and epochs were chosen after two trials: at rate $10^{-2}$ and ten epochs depth 40 trains almost nowhere, and $6\,\xi_c$ does not hold. A scale, then, and no law.

# %% [markdown]
# ## Your own model
#
# Theory takes any elementwise function. Put yours here: a length that is stable, and a $\chi_1$, in one line. Then look where it is critical. The function below is a tanh with a leak. It has no name in any paper; does adding a straight line move the edge to smaller weights, or to larger ones? Guess first, then change the leak and look again.

# %%
def mine(h):
    return torch.tanh(h) + 0.2 * h

for s in (0.5, 0.8, 1.1, 1.4):
    mf = meanfield.MeanField(mine, s, 0.1)
    print(f"σ_w = {s}: q* = {mf.q_star:.3f}, χ₁ = {mf.chi_1:.3f}, "
          f"{meanfield.Phase(int(mf.phase)).name.lower()}")
edge = meanfield.critical_line(mine, 0.1).item()
print(f"critical at σ_w = {edge:.3f}")

# %% [markdown]
# ## Recap: the dictionary
#
# | signal propagation says | geometry says | measured here |
# |---|---|---|
# | $q$-map | squared length of a state | A4.c1 |
# | $C$-map | angle of two states | A4.c2 |
# | $\chi_1$ | mean squared singular value | A4.c3, A4.c7 |
# | ordered, chaotic | $g$ contracts, expands | A4.c3; zeros: A4.c5 |
# | $\xi_c$ | depth at which two points merge | under *Zeros and angles*; A4.c12 |
# | gradients vanish, explode | mean $\sigma^2 \to 0$, $\to \infty$ | A4.c6 |
# | critical | mean $\sigma^2 = 1$, no isometry | A4.c8, A4.c9 |
# | badly conditioned | $\sigma_{\max}/\sigma_{\min} \to \infty$: $g$ degenerates | *Degenerate metrics* |
#
# Next, A5: what $\chi_1$ does not see, the curvature.

# %% [markdown]
# **Quiz.** Answer before you open.
#
# <details><summary>1. A network has χ₁ = 0.9. By what factor does a small step's length change in 20 layers, in the root mean square?</summary>0.9 to the 10th, about a third.</details>
# <details><summary>2. Which has the larger extrinsic curvature after ten layers, the ordered or the chaotic circle?</summary>The ordered one: it is a tiny loop. Its total curvature stays below 1.5 · 2π.</details>
# <details><summary>3. Is ReLU with σ_w² = 3 chaotic?</summary>No: two inputs still align, c → 1; but no length is stable, lengths grow without bound.</details>
# <details><summary>4. The gradient neither vanishes nor explodes. Is the Jacobian well conditioned?</summary>Not implied: the mean square is 1, the distortion may be anything.</details>

# %% [markdown]
# **Discuss.** (1) Which lines of the dictionary survive training? (2) Would you start a network at the edge, or slightly on one side? (3) Which line needs infinite width most, and which holds at every width?
#
# **Read on.** Poole et al. 2016, Exponential expressivity in deep neural networks through transient chaos · Schoenholz et al. 2017, Deep information propagation · Pennington, Schoenholz & Ganguli 2017 ·
# Hanin, Jeong & Rolnick 2021 (ReLU keeps lengths).

# %%
progress()
