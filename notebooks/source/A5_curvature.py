# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A5 · Nonlinearity makes curvature
#
# Three photographs span a flat sheet of pictures. An untrained network carries it through its layers. Weights are linear, tanh acts on one number at a time, and yet the sheet
# arrives crumpled: curved like a ball where orange, like a saddle where blue. Beside it the bill, layer by layer. Drag the depth, then the weights' scale.
# **Who bent the sheet, and do the layers' own terms, the ticks, add up to its curvature?**

# %% tags=["figure"] mystnb={"image": {"alt": "A sheet seen in space, flat at depth 1 and ever more crumpled with depth and weight scale, its pieces orange or blue by the sign of their curvature. Beside it horizontal bars, each layer's share of the integral curvature, and ticks, its own term; the ticks add up to another number than the bars."}}
import math

import torch
from torch import nn

from labkit import Chain
from labkit.geometry import curvature, surfaces
from labkit.geometry.planes import plane_through
from labkit.lessons import check, claim, explore, hint, predict
from labkit.lessons import progress, setup, solution
from labkit.networks import mlp
from labkit.plots import bending, curves
from labkit.theory import great_sphere, meanfield
from labkit.theory.kernel_jets import kernel_jet
from labkit.training import datasets

explore("A5")

# %% [markdown]
# | | |
# |---|---|
# | **You will be able to** | split bending from stretching (A5.1); compute curvature by Gauss' equation (A5.2); say which layer made it (A5.3); measure it without derivatives, at kinks too (A5.4); predict it from two numbers |
# | **Time** | 70 minutes; `full` runs for some 5 |
# | **You need** | A2: the pullback metric; the chain rule twice (A4's $q^*$, $\chi$ are recalled) |
# | **Sources** | Gauss 1828; Milnor 1950; Poole et al. 2016; Di Lillo 2025 |

# %% tags=["parameters"]
profile: str = "fast"     # "full": three times the networks, deeper
nets: int = 8             # networks behind an interval
depth: int = 6            # affine maps of every network, at least 3
width: int = 64           # units of a hidden layer of the sheets
wide: int = 1000          # units where the limit of width is tested
activation: str = "tanh"  # a smooth name of labkit.theory
sigma_b: float = 0.3      # biases; the weights are tuned to χ = 1
seed: int = 0             # weights
device: str = "cpu"       # "cuda" on a machine with an NVIDIA GPU

# %%
full = setup(profile, seed, device)
deep = 30 if full else depth - 1          # layers after the first
torch.set_default_dtype(torch.float64)
torch.set_grad_enabled(False)             # nothing is trained here
repeats = 3 * nets if full else nets
data = datasets.fashion_mnist(device=device)
first = [int((data.test.labels == k).nonzero()[0]) for k in (1, 3, 9)]
plane = plane_through(data.test.inputs[first])
sigma_w = float(meanfield.critical_line(activation, sigma_b))
sheets = [mlp(depth, width, activation, sigma_w, sigma_b, n_in=784,
              seed=seed + k, device=device) for k in range(repeats)]

# %% [markdown]
# **Predict.** Put a round 2-sphere into a wide random tanh network that keeps lengths in the mean ($\chi = 1$). After five layers, how much more bent is its
# image than a round sphere of that size? Bending is measured by $|II|^2$, defined below; 1 means as bent.

# %%
my_guess = None           # a positive number; 1 means still round
predict("A5.p1", my_guess)

# %% [markdown]
# ## The idea in one picture
#
# Walk through the middle of the sheet at speed 1. The image moves with velocity $Df\,u$ and acceleration $D^2\!f(u,u)$. Part of this points along the walk: it gets faster or slower.
# The rest stands at right angles: the walk *bends*.

# %% tags=["figure"] mystnb={"image": {"alt": "The image of a straight walk near one point, with its acceleration drawn as an arrow, split into a tangent part and a normal part, and the circle that fits the curve best there."}}
net, u = sheets[0], plane.basis[:, :1]
walk = net.jet(plane.origin[None], basis=u)
v, a = walk.first[0, :, 0], walk.second[0, :, 0, 0]
II = curvature.second_fundamental_form(walk)[0, :, 0, 0]
axes = nn.functional.normalize(torch.stack([v, II]))
t = torch.linspace(-16, 16, 161, device=device)[:, None]
curve = (net(plane.origin + t * u.mT) - walk.value) @ axes.mT
speed, parts = float(v.norm()), axes @ a
print(f"speed {speed:.4f}; along {parts[0]:.5f}, across {parts[1]:.5f}")
print(f"radius {speed**2 / parts[1]:.2f}, speed² / across")
bending.split(curve, speed, parts,
              "Only the normal part of the acceleration bends")

# %% [markdown] tags=["reads"]
# In the middle of the sheet one step arrives with length 0.2514. Of the acceleration 0.03019 points backwards; another clock would remove it. The other 0.04496 stand across, and no clock
# helps. The circle that fits best has radius $|Df\,u|^2/|II(u,u)| = 1.41$, one over the curvature $\kappa$. (Here $II$ is normal to the *curve*, $k = 1$.)

# %% [markdown]
# ## The statement
#
# Let $f : U \subseteq \mathbb{R}^k \to \mathbb{R}^n$ be $C^3$ with $Df$ injective, $g = Df^\top Df$ its pullback metric, $P_\perp$ the projection onto what is normal to the image. The **second fundamental form** is
# $II(u, v) = P_\perp\, D^2\!f(u, v)$; in an orthonormal frame $|II|^2 = \sum |II_{ij}|^2$, $\operatorname{tr} II = \sum II_{ii}$. **Then the Riemann tensor of $g$ is (Gauss)**
#
# $$R_{ijkl} = \langle II_{ik},\, II_{jl}\rangle - \langle II_{il},\, II_{jk}\rangle.$$
#
# So $g$ alone, lengths on the sheet, knows this combination of how it bends in space.

# %% [markdown]
# *Proof.* Both sides are tensors, so choose the coordinates. Replacing $x$ by $x$ plus a suitable quadratic makes the first derivatives of $g$ vanish at our point. There the
# textbook formula for $R$ (signs: a sphere has $K > 0$) keeps second derivatives only:
#
# $$R_{ijkl} = \tfrac12\bigl(\partial_i\partial_l g_{jk} + \partial_j\partial_k g_{il} - \partial_i\partial_k g_{jl} - \partial_j\partial_l g_{ik}\bigr).$$
#
# Write $f_i = \partial_i f$ and insert $g_{ij} = \langle f_i, f_j\rangle$. Each term gives four products, such as

# %% [markdown]
# $$\partial_i\partial_l \langle f_j, f_k\rangle = \langle f_{ijl}, f_k\rangle + \langle f_{ij}, f_{kl}\rangle + \langle f_{jl}, f_{ik}\rangle + \langle f_j, f_{ikl}\rangle.$$
#
# In the sum all third derivatives cancel in pairs, all $\langle f_{ij}, f_{kl}\rangle$ too, and what is left, halved, is $\langle f_{ik}, f_{jl}\rangle - \langle f_{il}, f_{jk}\rangle$. And where $\partial g = 0$,
# second derivatives have no tangent part: $f_{ij} = II_{ij}$. $\square$

# %% [markdown]
# *What it needs.* Rank $k$ everywhere: at a fold or a cusp $II$ is not defined. Three derivatives for the proof, but only two enter the result.
#
# For a surface, $k = 2$, all of $R$ is one number, **Gauss' curvature** $K = R_{0101}/\det g$. In an orthonormal frame, summed over all pairs, the equation reads
#
# $$2K = |\operatorname{tr} II|^2 - |II|^2 .$$

# %% [markdown]
# ## Measure: three surfaces, each one hidden layer
#
# As $\cos u \cos v = \tfrac12\cos(u{+}v) + \tfrac12\cos(u{-}v)$, the sphere is a network: affine, sine, affine. So is the torus, and so is the Clifford torus $(\cos u, \sin u, \cos v, \sin v)$.
# Their curvatures are known: $K = 1$, $\cos v/(2 + \cos v)$, and 0.

# %%
u, v = at = math.pi * (2 * torch.rand(2, 100) - 1)   # all around
made = {"sphere": (surfaces.sphere(), 1 + 0 * v),
        "torus": (surfaces.torus(), v.cos() / (2 + v.cos())),
        "Clifford torus": (surfaces.clifford_torus(), 0 * v)}
for name, (chain, K) in made.items():
    jet = chain.jet(at.mT, by_link=True)
    S, paid = curvature.scalar_curvature(jet), curvature.bill(jet)
    trace2 = 4 * curvature.mean_curvature(jet).square().sum(1)
    print(f"{name}: K off by {(S / 2 - K).abs().max():.0e}, "
          f"affine links pay {paid[:, ::2].abs().max():.0f}, "
          f"|II|² at a point {(trace2 - S)[0]:.2f}")

# %% tags=["figure"] mystnb={"image": {"alt": "A sphere, a torus and a Clifford torus projected to three dimensions. The sphere is evenly orange, the torus orange outside and blue inside, the Clifford torus colourless. A scale of colour for K stands at the right."}}
drawn, s = {}, torch.linspace(-1, 1, 41) * math.pi
m = (s[1:] + s[:-1]) / 2                    # the middles of pieces
for (name, (chain, _)), half, said in zip(made.items(), (2, 1, 1), (
        "$K = 1$", "$K$ from $-1$ to 1/3", "$K = 0$")):
    p = chain(torch.cartesian_prod(s, s / half)).reshape(41, 41, -1)
    if p.shape[2] == 4:                     # seen from a pole
        p = p[..., :3] / (2**0.5 - p[..., 3:])
    jet = chain.jet(torch.cartesian_prod(m, m / half))
    K = curvature.scalar_curvature(jet).reshape(40, 40) / 2
    drawn[f"{name}\n{said}"] = p, K
bending.gallery(drawn, "Like a ball, like a saddle, bent but flat")

# %% [markdown] tags=["reads"]
# All agree to rounding, and the affine links pay exactly nothing: the sine alone bends. The Clifford torus has $|II|^2 = 2.00$, as much as the sphere, and yet $K = 0$. It bends along two circles and
# unrolls into a square without being stretched. Bent and curved are two things.

# %% [markdown]
# ## Exercise A5.1 · the second fundamental form
#
# Write `second_form(J, H)`, the normal part of second derivatives $H$, $(n, k, k)$, given the Jacobian $J$, $(n, k)$. Its columns span the tangent space, but
# are neither unit nor orthogonal. A projector $(n, n)$ acts on the first axis of $H$.

# %% tags=["exercise"]
def second_form(J, H):
    """The part of H (n, k, k) normal to the columns of J."""
    ...

check("A5.1", second_form)
# hint("A5.1")      # without the "#": a rung of the ladder
# solution("A5.1")  # after you have tried

# %% [markdown]
# ## Exercise A5.2 · Gauss' curvature
#
# Write `gauss(II, g)`, the number $K$ of a surface from $II$, $(n, 2, 2)$, and its metric $g$, $(2, 2)$. The entries $II_{ij}$ are vectors of length $n$.

# %% tags=["exercise"]
def gauss(II, g):
    """Gauss' curvature of a surface with this II and metric."""
    ...

check("A5.2", gauss)      # stuck? hint("A5.2"), solution("A5.2")

# %% [markdown]
# ## The bill
#
# Differentiate a chain twice: each link adds one part (Faà di Bruno),
#
# $$D^2\!f(u,v) = \sum_l J_L \cdots J_{l+1}\; D^2\!f_l\,(J_{l-1}\cdots J_1 u,\; J_{l-1}\cdots J_1 v).$$
#
# For an affine link $D^2\!f_l = 0$. For an elementwise one it is $\varphi''(h)\,u\,v$, unit by unit. So $II = \sum_l II^l$ ($II^l$: $P_\perp$, at the output, of term $l$) comes from nonlinearities alone; affine maps pass it on.

# %% [markdown]
# Curvature is quadratic in $II$, so $K$ is a sum over *pairs* of layers, the **bill** $B_{lm}$: own terms $B_{ll}$, and cross terms. A layer's *share* is its row sum.
#
# $$2B_{lm} = \langle \operatorname{tr} II^l, \operatorname{tr} II^m\rangle - \langle II^l, II^m\rangle .$$
#
# A layer here is $h \mapsto W\varphi(h) + b$; the first is affine. Sum over the sheet: $\int K\,dA$, its **integral curvature** in radians; a whole round sphere has $4\pi$.

# %%
x, side, bills = plane.at(plane.grid(24, 23.0)), 2.0, []
for one in sheets:
    jet = one.jet(x, basis=plane.basis, by_link=True)
    area = side**2 * torch.linalg.det(jet.first.mT @ jet.first).sqrt()
    entries, S = curvature.bill(jet), curvature.scalar_curvature(jet)
    rows_miss = (entries.sum(2).sum(1) - S).abs().max() / S.abs().max()
    bills.append((entries * area[:, None, None] / 2).sum(0))
print(f"sums of rows miss the whole by {rows_miss:.0e}, relatively")
bills = torch.stack(bills)

# %% tags=["figure"] mystnb={"image": {"alt": "A 6 by 6 table of numbers: the first row and column are zero, framed diagonal entries negative, most others positive. Beside it bars of row sums and ticks of own terms, whose sums differ."}}
whole, own = bills.sum((1, 2)), bills.diagonal(dim1=1, dim2=2).sum(1)
claim("A5.c1", own - whole, predicted=0)
print("whole:", *(f"{value:.2f}" for value in whole))
print("own:  ", *(f"{value:.2f}" for value in own))
bending.bill(bills[0], "Own terms do not make the curvature: pairs do")

# %% [markdown] tags=["reads"]
# Rows sum to the whole to rounding. The diagonal does not, often not even in sign: own terms miss the curvature by $-4.8 \pm 1.7$ rad (±: four standard errors), so the claim fails; here they are −5.86 against 0.12. An own term is the curvature with
# *that layer alone* nonlinear, all others linearised there. Here own terms are mostly saddles (for erf, wide, never balls: Zavatone-Veth et al. 2023); most balls come from pairs.

# %% [markdown]
# ## A witness who never differentiates twice
#
# Carry an arrow around the border of the sheet, never turning it *in the sheet*. It comes home turned by $\int K\,dA$, up to $2\pi$ (Gauss and Bonnet). Each step needs first derivatives only.

# %%
edge = torch.linspace(-24, 24, 201, device=device)[:-1]
far = torch.full_like(edge, 24.0)
way = plane.at(torch.cat([torch.stack(pair, 1) for pair in (
    (edge, -far), (far, edge), (-edge, far), (-far, -edge))]))
turned = torch.stack([curvature.holonomy(
    one, way[None], basis=plane.basis)[0] for one in sheets])
print("arrow:", *(f"{angle:.2f}" for angle in turned))
claim("A5.c2", whole - turned, predicted=0)

# %% [markdown] tags=["reads"]
# The two differ by $-0.0006 \pm 0.0062$ rad. One side uses second derivatives, the other none. That they agree is Gauss' theorem.

# %% [markdown]
# ## Exercise A5.3 · a layer's share
#
# Write `shares(forms)`, the row sums of the bill of $K$. You get the layers' parts $II^l$ in an orthonormal frame, $(L, n, 2, 2)$. Whose are the cross terms? Each pair splits them evenly.

# %% tags=["exercise"]
def shares(forms):
    """What each layer contributes to K, (L,); they sum to K."""
    ...

check("A5.3", shares)     # stuck? hint("A5.3"), solution("A5.3")

# %% [markdown]
# ## How strongly: two numbers
#
# In wide random networks two inputs with cosine $c$ leave a layer with cosine $C(c)$ (A4). Let $q^*$ be the mean square every layer keeps, $\chi = C'(1)$, *critical* if 1, $\gamma = C''(1)$; $A$, $\Gamma$ the
# same for $l$ layers composed: at $\chi = 1$, $A = 1$, $\Gamma = l\gamma$. Put a $d$-sphere of squared radius $Nq^*$ into the $N$ input units, $N \to \infty$. Its image has curvature $1/(N q^* A)$ inside, and in the mean
#
# $$N|II|^2 = \frac{d + d(d{+}2)\,\Gamma/A}{q^* A}, \qquad N|\operatorname{tr} II|^2 = \frac{d^2 + d(d{+}2)\,\Gamma/A}{q^* A}.$$

# %% [markdown]
# *Where it comes from.* To second order the image is a Gaussian field with covariance $q^* C(\cos\theta)$; its derivatives at $\theta = 0$ give $\mathbb{E}|II(u,u)|^2 \propto 3\Gamma + A$ (for a
# curve: $q^*\bar\kappa^2 = (3\Gamma + A)/A^2$, the recursion of Poole et al. solved), $\Gamma + A$ for $\langle II(u,u), II(v,v)\rangle$, $\Gamma$ for $|II(u,v)|^2$. In $2K$ the $\Gamma$ cancel: *Gauss cannot see the wrinkles.*

# %%
layer = activation, sigma_w, sigma_b
mf = meanfield.MeanField(*layer)
q, layers = float(mf.q_star), torch.arange(deep + 1)
law = kernel_jet([layer] * deep, q)
law2 = great_sphere.second_fundamental_form(law, 2)
law_tr2 = great_sphere.mean_curvature(law, 2)
round2 = 2 / (law.q * law.chi_tot)        # |II|² if it were round
print(f"q* = {q:.4f}, χ = {mf.chi_1:.4f}, γ = {mf.gamma:.4f}")

# %%
spots, found = 2 * torch.rand(8, 2, device=device) - 1, {}
for n, count in ((100, 8 * repeats), (wide, 2 * repeats)):
    found[n] = torch.empty(count, deep + 1, 2)   # N|tr II|², N|II|²
    for k in range(count):
        ball = surfaces.sphere((n * q) ** 0.5, n, seed=seed + k)
        one = mlp(deep, n, *layer, seed=seed + k, device=device)
        chain = Chain([*ball, *one]).to(device)
        for at, jet in enumerate(list(chain.jets(spots))[3:]):
            trace2 = 4 * curvature.mean_curvature(jet).square().sum(1)
            norm2 = trace2 - curvature.scalar_curvature(jet)
            found[n][k, at] = n * torch.stack([trace2, norm2]).mean(1)

# %% tags=["figure"] mystnb={"image": {"alt": "Squared second fundamental form and squared trace of a sphere's image against depth, relative to a round sphere of that size: measured points on two straight rising lines, far above 1."}}
(trace2, norm2), five = found[wide].unbind(2), depth - 1
claim("A5.c3", (norm2 / round2)[:, five], predicted=1)
claim("A5.c4", (norm2 / law2)[:, five], predicted=1)
claim("A5.c5", (trace2 / law_tr2)[:, five], predicted=1)
one, two = "$|II|^2$", "$|\\mathrm{tr}\\,II|^2$"
curves.laws(layers, {one: norm2 / round2, two: trace2 / round2 / 2},
             {one: law2 / round2, two: law_tr2 / round2 / 2},
             f"Lengths stay, bending grows ($d = 2$, $N = {wide}$)",
             xlabel="layers", ylabel="bending / a round sphere's")

# %% [markdown] tags=["reads"]
# Measured over predicted, nothing fitted, is $0.990 \pm 0.057$ and $0.995 \pm 0.058$. And *isometric, so it does not bend* fails: $|II|^2$ is $10.24 \pm 0.59$ times a round sphere's: compare your guess. Lengths and $K$ stay in the mean,
# and every layer adds $4\gamma$ to this ratio ($d = 2$), four times 0.4670.
#
# A first-order rule for Gaussian weights, matched to simulations, not proved: measured over law is $1 + 1.5\,(2 + 3\iota)\,l/N$, where $\iota = \mathbb{E}\varphi'^4/(\mathbb{E}\varphi'^2)^2 - 1$.

# %% tags=["figure"] mystnb={"image": {"alt": "Measured over predicted bending against layers: at width 1000 the points stay near 1, at width 100 they climb along the line of the finite-width bias."}}
ratios = {f"$N = {n}$": got[..., 1] / law2 for n, got in found.items()}
rule = {f"$N = {n}$": 1 + 1.5 * (2 + 3 * mf.iota) * layers / n
        for n in found}
print(f"ι = {mf.iota:.3f}")
for name, ratio in ratios.items():
    print(f"{name[1:-1]}: measured {ratio[:, five].mean():.3f}, "
          f"rule {rule[name][five]:.3f}")
curves.laws(layers, ratios, rule, "Narrow networks bend more",
             xlabel="layers", ylabel="$|II|^2$, measured / law",
             lines="the rule", apart=0.12)

# %% [markdown] tags=["reads"]
# At width 100 five layers bend 1.285 times the law, where the rule expects 1.252; at width 1000, 0.990 (rule 1.025): within the bars. *Depth over width*
# must be small: thirty layers of width 1000 should be off by 15 %. (`full` shows it, and the rule failing at width 100.)

# %% [markdown]
# ## Count instead
#
# **Milnor (1950).** *A closed curve's total curvature $\int\kappa\,ds$, the angle through which its direction turns, is $\pi$ times the mean number of extrema of isotropic random readouts $\langle w, f\rangle$.*
#
# *Proof, for polygons.* At a corner of turning angle $\theta$ there is an extremum if and only if $w^\perp$ separates the two directions: probability $\theta/\pi$. Add up. $\square$
#
# No width occurs. Take a circle of photographs around the middle of the sheet, narrow networks and wide ones, 4,000 readouts each.

# %%
t = 2 * math.pi * torch.arange(400, device=device) / 400
loop = plane.at(20 * torch.stack([t.cos(), t.sin()], 1))
for n in (20, 2 * wide):
    rows = []
    for k in range(repeats):
        one = mlp(3, n, *layer, n_in=784, seed=seed + k, device=device)
        h = one(loop)
        angle = curvature.total_curvature(
            Chain([nn.Identity()]), h[None], closed=True)[0]
        w = torch.randn(n, 4000).to(device)
        rising = (h.roll(-1, 0) - h) @ w > 0
        extrema = (rising != rising.roll(1, 0)).sum(0).double().mean()
        rows.append(torch.stack([angle / math.pi, extrema]))
    turns, extrema = torch.stack(rows).unbind(1)
    print(f"width {n}: {turns.min():.2f} π to {turns.max():.2f} π")
    claim(f"A5.c6 {'narrow' if n == 20 else 'wide'}",
          extrema / turns, predicted=1)

# %% [markdown] tags=["reads"]
# Narrow: $0.9978 \pm 0.0097$. Wide: $1.0050 \pm 0.0077$. Narrow networks differ much from each other, 3.05 π to 4.36 π, wide ones little, 4.08 π to 4.22 π; the theorem holds for each. A readout is a logit: curvature counts how often
# a logit turns round along a loop.

# %% [markdown]
# ## Explore: one readout
#
# (1) At depth 1, how many extrema has every readout? Why? (2) Is there a readout with fewer than two? (3) Change tanh to ReLU at depth 6: does the loop look rougher?
#
# <details><summary>Answers</summary>(1) Two: an affine image of a circle is an ellipse. (2) No: a maximum and a minimum, so every closed curve turns by at least 2π (Fenchel). (3) A little; yet it turns six times as much: many small corners.</details>

# %% tags=["figure"] mystnb={"image": {"alt": "Left the image of a loop of photographs in its two widest directions, right one random readout along it; its extrema are marked on both. Titles give the total curvature over pi and the mean number of extrema, which agree."}}
explore("A5.turn", seed=seed)

# %% [markdown]
# ## Exercise A5.4 · the turning of a polygon
#
# Write `turning(points)`, the sum, in radians, of the angles by which the open polygon with corners $(T, n)$ turns at them.

# %% tags=["exercise"]
def turning(points):
    """The total turning, in radians, of an open polygon (T, n)."""
    ...

check("A5.4", turning)    # stuck? hint("A5.4"), solution("A5.4")

# %% [markdown]
# ## Where it fails
#
# Two controls. A *linear* network, $\varphi(h) = h$: no curvature at any depth, and a circle keeps turning by $2\pi$. And ReLU: $\varphi'' = 0$ almost everywhere, so by the bill it should bend nothing.

# %%
for name, w, b in (("linear", 1.0, sigma_b), ("relu", 2**0.5, 0.0)):
    one = mlp(4, 50, name, w, b, n_in=784, seed=seed, device=device)
    jet = one.jet(plane.origin[None], basis=plane.basis, kinks="ignore")
    angle = curvature.total_curvature(one, loop[None], closed=True)
    print(f"{name}: K = {curvature.scalar_curvature(jet)[0] / 2:.0e}, "
          f"a circle turns by {angle[0] / math.pi:.3f} π")
try:
    one.jet(plane.origin[None])
except ValueError as refusal:
    print("jets:", str(refusal).split(",")[0])

# %% [markdown]
# Where a unit switches, the direction jumps, and no derivative at a point sees it. Hence jets refuse such a network unless told to ignore kinks.
#
# *How much?* On a great circle each of $N$ units vanishes twice, and there the direction turns by $\sqrt{\pi/N}$, both in the mean ($\sigma_w^2 = 2$). So a layer adds $2\sqrt{\pi N}$ radians: after $l$ layers the circle turns by about $\pi\,(2 + 2\,l\sqrt{N/\pi})$, **growing with width**.

# %%
widths = (16, 32, 64, 128, 256) if full else (16, 32, 64, 128)
turns = {name: torch.empty(repeats, len(widths))
         for name in (f"{activation}, critical", "relu")}
for name, (phi, w, b), q_0 in zip(turns, (
        layer, ("relu", 2**0.5, 0.0)), (q, 1.0)):
    for at, n in enumerate(widths):
        t = 2 * math.pi * torch.arange(200 * n)[:, None] / (200 * n)
        equator = torch.cat([t, 0 * t], 1)[None].to(device)
        for k in range(repeats):
            ball = surfaces.sphere((n * q_0) ** 0.5, n, seed=seed + k)
            one = mlp(2, n, phi, w, b, seed=seed + k, device=device)
            chain = Chain([*ball, *one]).to(device)
            turns[name][k, at] = curvature.total_curvature(
                chain, equator, closed=True)[0]

# %% tags=["figure"] mystnb={"image": {"alt": "Total curvature over pi against width on logarithmic axes after two layers. ReLU points climb along the square root law, tanh points stay on a horizontal line."}}
for rows in turns.values():
    rows /= math.pi
roots = torch.tensor([great_sphere.relu_extrema(2, n) for n in widths])
smooth = great_sphere.extrema(kernel_jet([layer] * 2, q))[-1]
claim("A5.c7", (turns["relu"] / roots)[:, 3], predicted=1)
for name, rows in turns.items():
    print(f"{name}:", *(f"{mean:.2f}" for mean in rows.mean(0)))
print("laws:", *(f"{value:.2f}" for value in roots), f"{smooth:.2f}")
curves.laws(widths, turns,
             dict(zip(turns, (smooth + 0 * roots, roots))),
             f"Width bends ReLU, not critical {activation}", log=True,
             xlabel="width", ylabel="total curvature / $\\pi$")

# %% [markdown] tags=["reads"]
# The bill says 0, the loop turned by 12.085 π: *piecewise linear, so flat* is wrong, the curvature sits on the kinks. (The law says twice as much: on this loop, no great circle, fewer units switch.) On the great circle the law holds, $0.986 \pm 0.053$ at width 128. Eight times the
# width takes ReLU from 10.97 to 27.15; tanh goes from 3.50 to 3.82, with limit $2\sqrt{1 + 3\Gamma/A} = 3.90$. In the language of two numbers ReLU has $\gamma = \infty$.

# %% [markdown]
# ## Your own model
#
# Any smooth chain has a bill. Here is an untrained convolutional network at the three photographs, along their plane. Put yours in its place.

# %%
torch.manual_seed(seed)
model = nn.Sequential(
    nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 8, 5, 2), nn.GELU(),
    nn.Conv2d(8, 16, 5, 2), nn.GELU(), nn.Flatten(), nn.Linear(256, 10))
chain = Chain(model.to(device))
photos = data.test.inputs[first]
jet = chain.jet(photos, basis=plane.basis, by_link=True)
shown = curvature.bill(jet).sum(2)
shown = shown / shown.abs().sum(1, keepdim=True)
for name, row in zip(chain.names, shown.mT):
    print(f"{name:12s}", *(f"{share:6.2f}" for share in row))

# %% [markdown] tags=["reads"]
# Columns: trouser, dress, boot; shares, over the sum of their sizes. Only the two GELU pay. At the dress (0.70 and 0.30) and the boot (0.68 and 0.32) both make balls, at the trouser saddles, −0.56 and −0.44:
# curvature belongs to a network *and* a place.

# %% [markdown]
# ## Recap
#
# | signal propagation says | geometry says | you compute |
# |---|---|---|
# | second-order term of a nudge | $D^2\!f$: stretching and bending | `chain.jet(x)` |
# | what no coordinates remove | second fundamental form, $2K = \lvert\operatorname{tr} II\rvert^2 - \lvert II\rvert^2$ | `curvature.scalar_curvature(jet)` |
# | which layer is nonlinear where | the bill, by rows | `curvature.bill(jet)` |
# | $\gamma = C''(1)$ of the layers | wrinkles of a sphere | `great_sphere.second_fundamental_form` |
# | how often a readout turns round | total curvature over $\pi$ | `curvature.total_curvature` |
#
# Next, A6 pulls a metric back to the parameters.

# %% [markdown]
# **Quiz.** Answer before you open.
#
# <details><summary>1. A network ends in an affine layer. What does this layer pay?</summary>Nothing; yet it weighs what the others pay.</details>
# <details><summary>2. Two networks at χ = 1 with equal q* have γ = 0.05 and 2. In which has a sphere's image the larger K?</summary>In neither, for large width: γ makes wrinkles, and they cancel in K.</details>
# <details><summary>3. The image of a circle turns by 9π. How many extrema has a readout?</summary>Nine in the mean, an even number each time.</details>

# %% [markdown]
# **Discuss.** (1) Is a large $|II|^2$ good for a classifier? (2) Own terms are negative here, while the sphere has one, and it is positive. What differs? (3) What should replace the bill for ReLU?
#
# **Read on.** do Carmo 1992, Riemannian geometry, ch. 6; Milnor 1950, On the total curvature of knots; Poole et al. 2016 (curvature through depth); Di Lillo 2025, critical points of random networks; Zavatone-Veth et al. 2023.

# %%
progress()
