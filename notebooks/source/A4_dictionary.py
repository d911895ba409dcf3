# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A4 · The dictionary
#
# Below is the circle of lesson 00 again, and its network's place (60 units) in the plane of weight scale $\sigma_w$ and bias scale $\sigma_b$. Click there. In the blue the circle shrinks, in the orange it turns to wool; the gradient does the same, backwards.
# **Why do a circle that travels forwards and a gradient that travels backwards obey one number?**

# %% tags=["figure"] mystnb={"image": {"alt": "Four panels for a chosen weight and bias scale: the phase diagram with the chosen point, the image of a circle, the histogram of log singular values, and the squared gradient by layer beside a straight line."}}
from functools import partial

import torch
from torch.nn.functional import normalize

from labkit import Chain
from labkit.geometry import curvature, spectra
from labkit.lessons import check, claim, explore, hint, predict
from labkit.lessons import progress, setup, solution
from labkit.networks import mlp, siblings
from labkit.plots import propagation
from labkit.theory import meanfield
from labkit.training import datasets, ensemble

explore("A4")

# %% [markdown]
# | | |
# |---|---|
# | **You will be able to** | step a squared length (A4.1) · read $\chi_1$ off a Jacobian (A4.2) · find the critical scale (A4.3) · say how deep a signal lives (A4.4) |
# | **Time** | 70 minutes; `full` computed for 12 minutes on two busy cores |
# | **You need** | A1, the chain; A2, the metric; the normal distribution |
# | **Sources** | Poole et al. 2016; Schoenholz et al. 2017; Roberts, Yaida & Hanin 2022; Di Lillo et al. 2025 |

# %% tags=["parameters"]
profile: str = "fast"     # "full": more networks, a finer heat map
nets: int = 6             # networks behind every interval
depth: int = 8            # layers that the circle passes, at least 5
width: int = 1000         # units of a layer
activation: str = "tanh"  # smooth, with a critical point at σ_b = 0.3
deepest: int = 80         # layers of the deepest trained network
seed: int = 2026          # of all random numbers
device: str = "cpu"       # "cuda" on a machine with an NVIDIA GPU

# %%
full = setup(profile, seed, device)
torch.set_default_dtype(torch.float64)
repeats = 3 * nets if full else nets
sigma_b = 0.3
edge = meanfield.critical_line(activation, sigma_b).item()
scales = {"ordered": edge / 1.4, "critical": edge,
          "chaotic": 1.8 * edge}
phases = {p: (activation, s, sigma_b) for p, s in scales.items()}
theory = {p: meanfield.MeanField(*kind) for p, kind in phases.items()}
family = partial(siblings, kinds=phases, device=device)  # one draw
print(*(f"{phase}: σ_w = {s:.2f}" for phase, s in scales.items()))

# %% [markdown]
# **Predict.** Take five layers of $n = 500$ units at the critical scale, where in the mean the circle keeps its size. Look at all singular values of $Df$ at one
# point. An isometry has only ones. How large is the largest here?

# %%
my_guess = None           # a positive number; 1 means isometry
predict("A4.p1", my_guess)

# %% [markdown]
# ## The idea in one picture
#
# A layer is $h \mapsto W\varphi(h) + b$, with $W_{ij} \sim N(0, \sigma_w^2/n)$ and $b_i \sim N(0, \sigma_b^2)$. If it is wide, two numbers describe a pair of states of equal length: the **squared length** $q = |h|^2/n$ and
# the cosine $c$. A layer sends each to a new value. Iterate: up to the line, across to the diagonal, and again. Where does it end, and how fast?

# %%
q, c = torch.linspace(0, 6, 61), torch.linspace(0, 1, 61)
frame = torch.linalg.qr(torch.randn(width, 2, device=device)).Q
u, v = frame.mT * width**0.5              # orthogonal, |u|²/n = 1
at, tilt = (x[5::10, None].to(device) for x in (q, c))
after, cosine = {}, {}
for phase, layer in family(1, width, seed=seed):
    star = theory[phase].q_star.item()**0.5
    after[phase] = layer(at.sqrt() * u).square().mean(1)
    pair = layer(star * (tilt * u + (1 - tilt**2).sqrt() * v))
    cosine[phase] = torch.cosine_similarity(layer(star * u[None]), pair)

# %% tags=["figure"] mystnb={"image": {"alt": "Two maps of an interval with the diagonal dotted. The length map crosses the diagonal once in each phase; the correlation map ends at one, flatter than the diagonal in the ordered phase, tangent at criticality, steeper in the chaotic phase. Points of one draw of weights lie near the lines, at small cosines a little above in all phases."}}
for phase, mf in theory.items():
    print(f"{phase}: q* = {mf.q_star:.3f}, c* = {mf.c_star:.3f}, "
          f"χ₁ = {mf.chi_1:.3f}, ξ_q = {mf.xi_q:.2f}")
propagation.maps(
    {p: (q, mf.q_map(q), at[:, 0], after[p])
     for p, mf in theory.items()},
    {p: (c, mf.c_map(c), tilt[:, 0], cosine[p])
     for p, mf in theory.items()},
    "The right map's slope at c = 1 tells the phases apart")

# %% [markdown] tags=["reads"]
# Left, every length ends where its line meets the diagonal: at 0.274, 0.763 or 4.129. Right, all lines end at $C(1) = 1$. What differs is the slope there. Where it is below 1,
# near inputs approach; above, they part, until their cosine is 0.120; at 1 nothing of first order moves them. (Points are off by some $1/\sqrt n$, alike in all.)

# %% [markdown]
# ## The statement
#
# Let the entries of two states be i.i.d. pairs, centred Gaussian with variance $q$, correlation $c$, independent of $W, b$; $\varphi$ continuous, growing at most linearly. As $n \to \infty$, in probability, a layer sends $q$ to $V(q)$ and, at a fixed point $q^* = V(q^*) > 0$, $c$ to $C(c)$:
#
# $$V(q) = \sigma_w^2\,\mathbb E\,\varphi(\sqrt q\,z_1)^2 + \sigma_b^2,$$
#
# $$C(c) = \tfrac1{q^*}\bigl(\sigma_w^2\,\mathbb E\,\varphi(\sqrt{q^*}z_1)\,\varphi(\sqrt{q^*}z_2) + \sigma_b^2\bigr),$$
#
# $z_1, z_2$ standard normal, correlation $c$. If $\varphi$ is locally absolutely continuous and $\mathbb E\,\varphi'(\sqrt{q^*}z)^2 < \infty$, the Jacobian $J = W \operatorname{diag}\varphi'(h)$ at $q^*$ has
#
# $$\chi_1 := C'(1^-) = \sigma_w^2\,\mathbb E\,\varphi'(\sqrt{q^*} z)^2 = \lim_{n\to\infty} \tfrac1n \|J\|_F^2,$$
#
# **mean squared singular value.**

# %% [markdown]
# *Sketch.* Given $h$, the entries of $W\varphi(h) + b$ are independent Gaussians: sums become expectations. Price's theorem differentiates both
# factors. And $\frac1n\|J\|_F^2 = \sum_j (\frac1n \sum_i W_{ij}^2)\,\varphi'(h_j)^2 \to \sigma_w^2\,\mathbb E\varphi'^2$. $\square$
#
# A tangent $t$, Gaussian and independent of $h$ as on the circle, has $\mathbb E|Jt|^2 = \chi_1|t|^2$; a gradient $s$, independent of $W$ (only as $n \to \infty$), $\mathbb E|J^\top s|^2 = \chi_1|s|^2$.
# That answers the opening question, in the mean square, width to infinity before depth. Take a stable $q^*$, $|V'(q^*)| < 1$ (tanh with $\sigma_b = 0$, $\sigma_w \le 1$ has none).

# %% [markdown]
# ## Exercise A4.1 · one step of squared lengths
#
# Write `next_length(phi, sigma_w, sigma_b, q)`. `phi` acts on tensors; two per cent are exact enough: draw samples or sum over a grid. Mind which letters are standard deviations, which variances.

# %% tags=["exercise"]
def next_length(phi, sigma_w, sigma_b, q):
    """V(q): the squared length after one more layer, a number."""
    ...

check("A4.1", next_length)
# hint("A4.1")      # without the "#": a rung of the ladder
# solution("A4.1")  # after you have tried

# %% [markdown]
# ## Six activations against the theory
#
# Put 100 inputs with $q = 1$ into networks of 1,000 units, in pairs with cosine ½. After five layers, where is theory more than one per cent
# off? (It steps $c$ with each layer's own $q$. $\pm$ is four standard errors over networks; a claim *holds* within $\pm$ or its tolerance in `claims.json`, whichever is larger.)

# %%
kinds = {"tanh": (2.5, 0.3), "erf": (2.5, 0.3), "hardtanh": (2.5, 0.3),
         "relu": (2**0.5, 0.0), "gelu": (1.2, 0.3), "silu": (1.2, 0.3)}
kinds = {name: (name, *pair) for name, pair in kinds.items()}
a, b = torch.randn(2, 50, width, device=device)
a = normalize(a)
b = normalize(b - (a * b).sum(1, keepdim=True) * a)
inputs = torch.cat([a, a / 2 + 0.75**0.5 * b]) * width**0.5
seen = {name: [] for name in kinds}
for k in range(repeats):
    for name, net in siblings(5, width, kinds, seed + k, device=device):
        seen[name].append(net(inputs))

# %%
for name, kind in kinds.items():
    mf, h = meanfield.MeanField(*kind), torch.stack(seen[name]).cpu()
    q5 = mf.q_trajectory(1.0, 5)[-1]
    c5 = mf.c_trajectory(0.5, 5, q0=1.0)[-1]
    found = torch.cosine_similarity(h[:, :50], h[:, 50:], dim=2).mean(1)
    print(f"{name}: c₅ predicted {c5:.3f}, measured {found.mean():.3f}")
    claim(f"A4.c1 length {name}", h.square().mean((1, 2)) / q5,
          predicted=1)
    if name in ("tanh", "erf", "hardtanh"):
        claim(f"A4.c1 cosine {name}", found, predicted=c5)

# %% [markdown] tags=["reads"]
# Nowhere in the three that can tell: tanh's $q$ is $1.0001 \pm 0.0047$ of the prediction. For ReLU, $1.02 \pm 0.12$, every length is a fixed point: nothing
# pulls a network back, and the chances of all layers multiply. GELU and SiLU are pulled back, but vary too much to test one per cent. Mean cosines agree (claimed for the three).

# %% [markdown]
# ## The circle forwards, a gradient backwards
#
# Back to the circle, of radius $\sqrt{n q^*}$. For each network keep, layer by layer, its squared speed $\bar g = g/n$, its squared curvature $\bar\kappa^2 = n\kappa^2$, the zeros of a
# unit, and $1 - c$ for points 11° apart. And backwards, the *mean squared* norm of a random gradient at the last layer.

# %%
turn = torch.linspace(0, 2 * torch.pi, 257, device=device)[:-1, None]

def ring(t, q=1.0):                       # the circle |h|² = n q
    return q**0.5 * (t.cos() * u + t.sin() * v)

def pulled(start, net):
    """Mean squared norm of a gradient by layer, 1 at the last."""
    h = net.states(start(turn[::16]).requires_grad_())
    grads = torch.autograd.grad(h[-1], h, torch.randn_like(h[-1]))
    size = torch.stack([g.square().sum(1).mean() for g in grads])
    return {"gradient": size / size[-1]}

# %%
def along(start, net):
    """What the lesson watches on the circle, layer by layer."""
    jets = Chain([start, *net]).jets(turn[::16])
    made = [curvature.curve_geometry(jet) for jet in jets][1:]
    g, k2 = (torch.stack([getattr(m, name) for m in made]).square(
        ).mean(1).detach() for name in ("speed", "curvature"))
    h = torch.stack(net.states(start(turn)))
    flips = ((h > 0) != (h.roll(-1, 1) > 0)).sum(1).double().mean(1)
    h = h[:, ::8]
    gap = 1 - torch.cosine_similarity(h, h.roll(-1, 1), dim=2).mean(1)
    return {"speed": g / width, "curvature": k2 * width,
            "zeros": flips, "gap": gap}

# %%
rows = {phase: [] for phase in theory}
for k in range(repeats):
    for phase, net in family(depth, width, seed=seed + k):
        start = partial(ring, q=theory[phase].q_star.item())
        rows[phase].append(along(start, net) | pulled(start, net))
runs = {name: {phase: torch.stack([row[name] for row in found]).cpu()
               for phase, found in rows.items()}
        for name in rows["critical"][0]}

# %% tags=["figure"] mystnb={"image": {"alt": "Squared speed of the circle and mean squared gradient by layer on logarithmic axes, three phases each. Speed falls, stays or grows with depth; the gradient, 1 at the last layer, does the same with every layer back. Points lie on predicted lines."}}
paths = {phase: mf.circle(depth + 1) for phase, mf in theory.items()}
back = torch.arange(depth + 1)
propagation.through_depth(
    {"squared speed of the circle": {
        p: (runs["speed"][p], paths[p].speed) for p in theory},
     "mean squared gradient": {
        p: (runs["gradient"][p].flip(1), mf.chi_1**back)
        for p, mf in theory.items()}},
    "One factor a layer, $\\chi_1$: forwards and backwards",
    xlabel=("depth", "layers back from the output"))

# %%
for phase, mf in theory.items():
    g = runs["speed"][phase]
    growth = (g[:, -1] / g[:, 0]) ** (1 / depth)
    claim(f"A4.c2 {phase}", growth, predicted=mf.chi_1)
for phase, mf in theory.items():
    slope = runs["gradient"][phase][:, 0].log() / depth
    claim(f"A4.c4 {phase}", slope, predicted=mf.chi_1.log())

# %% [markdown] tags=["reads"]
# A layer multiplies the metric on the circle by $0.6989 \pm 0.0084$, $1.0010 \pm 0.0083$ or $1.598 \pm 0.017$: "ordered" contracts in the mean, "chaotic" expands. Backwards the logarithms are
# $-0.358 \pm 0.012$, $-0.0034 \pm 0.0091$ and $0.4650 \pm 0.0079$, where $\log\chi_1$ is $-0.361$, 0.0000 and 0.4646. One number, because a matrix and its transpose have the same singular values, and neither tangent nor gradient prefers a singular direction.

# %% [markdown]
# ## Bends and zeros
#
# For smooth $\varphi$ curvature has its own recursion, $\bar\kappa_0^2 = 1/q^*$, $\bar\kappa_l^2 = 3\chi_2/\chi_1^2 + \bar\kappa_{l-1}^2/\chi_1$, $\chi_2 = \sigma_w^2\,\mathbb E\,\varphi''(\sqrt{q^*}z)^2$. Let one unit be a readout: along the circle it is a Gaussian process,
# which by Rice's formula vanishes $2\chi_1^{l/2}$ times in the mean. Which circle bends most?

# %% tags=["figure"] mystnb={"image": {"alt": "Squared curvature of the circle and zeros of one unit along it against depth, three phases each. Curvature grows most in the ordered phase and levels off in the chaotic one; zeros fall, stay at two, or grow. Points lie on predicted lines."}}
zeros = {p: 2 * mf.chi_1 ** (back / 2) for p, mf in theory.items()}
bend = runs["curvature"]["chaotic"] / paths["chaotic"].curvature
claim("A4.c2 curvature", bend[:, min(5, depth)], predicted=1)
for phase, by in runs["zeros"].items():
    claim(f"A4.c3 {phase}", by[:, -1] / zeros[phase][-1], predicted=1)
propagation.through_depth(
    {"squared curvature $\\bar\\kappa^2$": {
        p: (runs["curvature"][p], paths[p].curvature) for p in theory},
     "zeros of a unit": {p: (runs["zeros"][p], zeros[p])
                         for p in theory}},
    "The smallest circle bends most; on the longest a unit has most"
    " zeros")

# %% [markdown] tags=["reads"]
# The *ordered* one, because it is so small (at depth 5 the chaotic ratio is $1.007 \pm 0.048$). By the recursion total turning, curvature times arc length, is bounded in order, grows like $\sqrt l$ at the edge, exponentially in chaos.
# Zeros are as predicted: ratios $0.998 \pm 0.092$, $1.010 \pm 0.084$, $0.986 \pm 0.018$.

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
# ## How long two points stay apart
#
# Two points 11° apart on the circle have a cosine $c_l$. If $0 < C'(c^*) < 1$ and $c_0$ is near $c^*$, then $|c_l - c^*| \asymp e^{-l/\xi_c}$ with the **depth scale** $\xi_c = -1/\log C'(c^*)$, in order $-1/\log\chi_1$. When do they seem one?

# %% tags=["figure"] mystnb={"image": {"alt": "One minus the cosine of two points 11 degrees apart against depth: it falls in the ordered phase, is level at criticality and rises in the chaotic phase. Points lie on predicted lines."}}
mf, by = theory["ordered"], runs["gap"]["ordered"]
rate = (by[:, 4] / by[:, -1]).log() / (depth - 4)
print(f"1/ξ_c predicted {1 / mf.xi_c:.3f}, measured {rate.mean():.3f}"
      f" ± {4 * rate.std() / repeats**0.5:.3f}")
near = torch.cos(turn[8, 0]).cpu()
gap = 1 - mf.c_trajectory(near, 200)
print(f"gap {gap[0]:.4f}; 0 in 32 bits at {(gap > 2**-25).sum()}")
propagation.through_depth(
    {"$1 - c$ of two points, $11^\\circ$ apart": {
        p: (runs["gap"][p], 1 - mf.c_trajectory(near, depth))
        for p, mf in theory.items()}},
    "Near points merge, stay, or part")

# %% [markdown] tags=["reads"]
# In order the gap of 0.0192 shrinks at a rate of $0.361 \pm 0.021$, predicted 0.361. After 38 layers a 32-bit cosine is 1, though the states still differ. Lengths have a scale
# of their own, $\xi_q = -1/\log V'(q^*)$, printed above the first picture: finite at our three points.

# %% [markdown]
# ## Exercise A4.3 · the critical scale
#
# Write `critical(chi, low, high)`: `chi` is an increasing function with `chi(low) < 1 < chi(high)`. Return where it is 1. Halve the interval again and again.

# %% tags=["exercise"]
def critical(chi, low, high):
    """The σ_w between low and high at which chi(σ_w) = 1."""
    ...

check("A4.3", critical)   # stuck? hint("A4.3"), solution("A4.3")

# %% [markdown]
# ## Which activations have a critical line?
#
# Choose a $q$. Then $\chi_1 = 1$ gives $\sigma_w$, and $V(q) = q$ gives $\sigma_b^2 = q - \sigma_w^2\,\mathbb E\varphi^2$, if $\ge 0$. As $q$ varies, the pair draws the critical line. Do GELU and SiLU have one?

# %% tags=["figure"] mystnb={"image": {"alt": "Critical weight scale against bias scale. Tanh, erf and hardtanh rise from zero bias; GELU and SiLU are nearly level and begin at circles at larger bias; ReLU is a single point at zero bias and root two."}}
grid = 1.2 * torch.linspace(0, 1, 25)**2
grids = dict.fromkeys(kinds, grid) | {"relu": grid[:1]}
lines = {name: (at, meanfield.critical_line(name, at))
         for name, at in grids.items()}
ends = {n: meanfield.half_stable_ends(n) for n in ("gelu", "silu")}
for name, end in ends.items():
    print(f"{name}: begins at q* = {end.q[0]:.3f}, "
          f"σ_b = {end.sigma_b[0]:.4f}, σ_w = {end.sigma_w[0]:.4f}")
begins = {name: (end.sigma_b[0].item(), end.sigma_w[0].item())
          for name, end in ends.items()}
propagation.critical_lines(lines, "GELU and SiLU have critical lines,"
                           " ReLU a point", begins=begins)

# %% [markdown] tags=["reads"]
# They do. Stable parts begin at the circles, GELU's at $q^* = 3.562$, SiLU's at 14.320; smaller $q$ have $V'(q) > 1$: no network keeps them.
# ReLU's $\sigma_w^2 = 2$ (He et al. 2015) gives them $\chi_1 \to ½$ as $q \to 0$, their slope at 0 being ½. Is a network on the line critical? Take GELU at $q^* = 8$.

# %%
point, samples = meanfield.critical_points("gelu", 8.0), []
for k in range(repeats):
    x = normalize(torch.randn(1, width, device=device))
    net = mlp(1, width, "gelu", point.sigma_w.item(),
              point.sigma_b.item(), seed=seed + k, device=device)
    J = net.linearize((8 * width)**0.5 * x).dense()[0].detach()
    samples.append(J.square().sum().cpu() / width)
claim("A4.c5", torch.stack(samples), predicted=1)

# %% [markdown]
# ## Exercise A4.4 · how many layers
#
# Write `layers_until(chi_1, factor)`, $\chi_1 \ne 1$: a step is to become `factor` times as long, in the root mean square. How many layers does that take: a real number, negative if it never happens?

# %% tags=["exercise"]
def layers_until(chi_1, factor):
    """Layers after which a small step is factor times as long."""
    ...

check("A4.4", layers_until)   # stuck? hint("A4.4")

# %% [markdown]
# ## Degenerate metrics
#
# The metric is $g = Df^\top Df$, its extreme stretches are $\sigma_{\max}$ and $\sigma_{\min}$. Vanishing gradients should mean $\sigma_{\max} \to 0$, exploding ones $\sigma_{\max} \to \infty$. And the distortion $\sigma_{\max}/\sigma_{\min}$?
# Look in networks of 60 units, with A1's exact spectrum.

# %%
found = {phase: [] for phase in theory}
for k in range(repeats):
    x = normalize(torch.randn(1, 60, device=device)) * 60**0.5
    for phase, net in family(20, 60, seed=seed + k):
        lin = net.linearize(theory[phase].q_star.item()**0.5 * x)
        found[phase].append(spectra.log_spectrum(lin, depths=range(21)))
top = {phase: torch.cat([s.values[..., 0].mT for s in found[phase]])
       for phase in theory}
thin = {phase: torch.cat([s.log_distortion().mT for s in found[phase]])
        for phase in theory}

# %% tags=["figure"] mystnb={"image": {"alt": "Log of the largest singular value and log distortion against depth to twenty, three phases each. The largest falls, is nearly level, grows fast; the distortion grows in all three."}}
for phase in theory:
    print(f"{phase}: log σ_max {top[phase][:, -1].mean():.2f}, "
          f"log distortion {thin[phase][:, -1].mean():.1f}")
propagation.through_depth(
    {"log $\\sigma_{\\max}$": {p: (s.cpu(), None)
                              for p, s in top.items()},
     "log distortion": {p: (s.cpu(), None) for p, s in thin.items()}},
    "$\\sigma_{\\max}$ tells the phases apart; distortion grows in all",
    log=False)

# %% [markdown] tags=["reads"]
# While depth is well below width, the largest stretch separates the phases: at depth 20 its log is $-2.07$, 1.62 or 6.11. The log distortion grows in all three: 66.0, 84.6, 184.1. With Gaussian weights each layer almost
# loses some direction; so $g$ degenerates in *every* phase. Vanishing, exploding and degenerate are three diseases.

# %% [markdown]
# ## Where it fails
#
# "At $\chi_1 = 1$ the network is an isometry." For a direction chosen without looking at the weights it nearly is; singular directions do look. With Gaussian weights, as $n \to \infty$, the relative variance
# of $\sigma^2$ is $L(1 + \iota)$, $\iota = \mathbb E\varphi'^4/(\mathbb E\varphi'^2)^2 - 1$ (Pennington et al. 2017). Take the five layers of your guess. And does ReLU with $\sigma_w^2 = 2$, $\chi_1 = 1$ at every $q$, stretch the circle?

# %%
tops, spreads = [], []
mf, n = theory["critical"], width // 2
for k in range(2 * repeats):
    x = normalize(torch.randn(1, n, device=device))
    net = mlp(5, n, *phases["critical"], seed=seed + k, device=device)
    J = net.linearize((n * mf.q_star.item())**0.5 * x).dense()[0]
    s = torch.linalg.svdvals(J.detach()).cpu()
    tops.append(s[0])
    spreads.append(s.square().var() / s.square().mean()**2)
print(f"5(1 + ι) = {5 * (1 + mf.iota):.2f}")
claim("A4.c6 isometry", torch.stack(tops), predicted=1)
claim("A4.c6 spread", torch.stack(spreads), predicted=5 * (1 + mf.iota))

# %%
ratios = []
for k in range(repeats):
    net = mlp(depth, width, "relu", 2**0.5, 0.0, seed=seed + k,
              device=device).requires_grad_(False)
    walk = net(ring(turn))
    step = (walk.roll(-1, 0) - walk).norm(dim=1).sum()
    ratios.append(step.cpu() / (2 * torch.pi * width**0.5))
claim("A4.c7", torch.stack(ratios), predicted=1)

# %% [markdown] tags=["reads"]
# The largest singular value is $4.44 \pm 0.28$, not 1: the saying fails. The relative variance is $7.46 \pm 0.17$, predicted 7.28; terms of order $L^2/n$ allow 4 %. Orthogonal weights
# remove the 1, linear units the $\iota$. ReLU keeps arc length: $0.979 \pm 0.071$ (Hanin, Jeong & Rolnick 2021). It folds curves; that adds corners, not length.

# %% [markdown]
# ## How deep can a network be trained?
#
# Schoenholz et al. report that networks train up to about $6\,\xi_c$ layers: beyond a few $\xi_c$ inputs are indistinguishable or unrelated. Does this empirical rule hold on both sides of the edge? Digits, then: tanh networks of 64 units, $\sigma_b^2 = 0.05$, plain SGD
# with momentum for fifteen epochs.

# %%
digits = datasets.digits(dtype=torch.float32, device=device)
squared = torch.linspace(1, 3, 11 if full else 4)
rows = (5, 7, 10, 14, 20, 28, 40, 57, 80) if full else (10, 20, 40, 80)
rows = list(filter(deepest.__ge__, rows))
train = partial(ensemble.train_scales, digits, width=64,
                activation="tanh", sigma_w=squared.sqrt(),
                sigma_b=0.05**0.5, epochs=15, lr=2e-3, batch_size=128)
accuracy = torch.stack([torch.stack([
    train(depth=L, seed=seed + k) for L in rows])
    for k in range(3 if full else 1)]).mean(0).cpu()

# %% tags=["figure"] mystnb={"image": {"alt": "Heat map of test accuracy over depth and squared weight scale with the curve six times xi c. Cells below the curve are mostly bright, those above dark, with the highest bright column near the critical scale, where the curve leaves the picture."}}
rule = 6 * meanfield.MeanField("tanh", squared.sqrt(), 0.05**0.5).xi_c
last = ensemble.depth_at(accuracy, rows, 0.55)
print("trained to:", *(f"{d:.0f}" for d in last))
print("6 ξ_c:     ", *(f"{d:.0f}" for d in rule))
print("quotients: ", *(f"{x:.2f}" for x in last / rule))
off = (squared - 1.76).abs() > 0.25     # away from the critical scale
claim("A4.c8", (last / rule)[off].log2(), predicted=0)
fine = torch.linspace(1, 3, 401)
curve = 6 * meanfield.MeanField("tanh", fine.sqrt(), 0.05**0.5).xi_c
propagation.heat(accuracy, rows, squared, (fine, curve, "$6\\,\\xi_c$"),
                 "Deep networks train near the critical scale",
                 mark=(1.76, "edge"), note="Fifteen epochs, 64 units.")

# %% [markdown] tags=["reads"]
# Away from the edge accuracy (interpolated between depths) falls through 55 % at 1.01, 0.66 and 0.90 times $6\,\xi_c$: within a factor of two. These columns share one seed; their $\pm$ is not over networks. Near the edge
# it promises more than fifteen epochs deliver.
#
# Rate and epochs were chosen after two trials with seed 0: with rate $10^{-2}$ and ten epochs depth 40 trains almost nowhere. A scale, no law.

# %% [markdown]
# ## Your own model
#
# Theory takes any elementwise function. Here is a tanh with a leak. Does the straight line move the edge to smaller weights, or to larger ones? Guess. Then change the leak, or put in your own.

# %%
def mine(h):
    return torch.tanh(h) + 0.2 * h

for s in (0.5, 0.8, 1.1, 1.4):
    mf = meanfield.MeanField(mine, s, 0.1)
    print(f"σ_w = {s}: q* = {mf.q_star:.3f}, χ₁ = {mf.chi_1:.3f}, "
          f"{meanfield.Phase(int(mf.phase)).name.lower()}")
for name, phi in {"mine": mine, "tanh": "tanh"}.items():
    edge = meanfield.critical_line(phi, 0.1).item()
    print(f"{name}: critical at σ_w = {edge:.3f}")

# %% [markdown]
# ## Recap: the dictionary
#
# | signal propagation says | geometry says | measured here |
# |---|---|---|
# | $q$-map, $C$-map | squared length of a state, angle of two | A4.c1 |
# | $\chi_1$ | mean squared singular value | A4.c2, A4.c5 |
# | ordered, chaotic | *mean* $g$ contracts, expands | A4.c2; zeros: A4.c3 |
# | $\xi_c$ | depth at which two points merge | *How long …*; A4.c8 |
# | gradients vanish, explode | mean $\sigma^2 \to 0$, $\to \infty$ | A4.c4 |
# | critical | mean $\sigma^2 = 1$, no isometry | A4.c6 |
# | badly conditioned | $\sigma_{\max}/\sigma_{\min} \to \infty$: $g$ degenerates | *Degenerate metrics* |
#
# Next, A5: curvature.

# %% [markdown]
# **Quiz.** Answer before you open.
#
# <details><summary>1. Which bends more after ten layers, the ordered or the chaotic circle?</summary>The ordered one: it is a tiny loop.</details>
# <details><summary>2. Is ReLU with σ_w² = 3 chaotic?</summary>It has no q*, so neither word applies: g and q grow alike, by 1.5, and cosines go to 1.</details>
# <details><summary>3. The gradient neither vanishes nor explodes. Is the Jacobian well conditioned?</summary>No: the mean square is 1, the log distortion grows with depth.</details>

# %% [markdown]
# **Discuss.** (1) How would you measure which lines survive training? (2) Would you start a network at the edge, or slightly on one side?
#
# **Read on.** Poole et al. 2016, Exponential expressivity in deep neural networks through transient chaos · Schoenholz et al. 2017, Deep information propagation · Pennington, Schoenholz & Ganguli 2017 ·
# Hanin, Jeong & Rolnick 2021.

# %%
progress()
