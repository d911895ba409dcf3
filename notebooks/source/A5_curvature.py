# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A5 · Nonlinearity makes curvature
#
# Three photographs span a flat sheet of pictures. An untrained network carries it through its layers. Weights are linear, tanh acts on one number at a time, and yet the sheet
# arrives crumpled: like a ball where orange, like a saddle where blue. Beside it the bill, layer by layer. Drag the depth, then the weights' scale.
# **Who bent the sheet? Do the layers' own terms, the ticks, add up to its curvature?**

# %% tags=["figure"] mystnb={"image": {"alt": "A sheet seen in space, flat at depth 1 and ever more crumpled with depth and weight scale, its pieces orange or blue by the sign of their curvature. Beside it horizontal bars, each layer's share of the integral curvature, and ticks, its own term; the ticks add up to another number than the bars."}}
import torch
from torch import nn

from labkit import Chain
from labkit.geometry import curvature, planes, surfaces
from labkit.lessons import check, claim, explore, hint, predict
from labkit.lessons import progress, setup, solution
from labkit.networks import mlp
from labkit.plots import bending, curves
from labkit.theory import great_sphere, kernel_jets, meanfield
from labkit.training import datasets

explore("A5")

# %% [markdown]
# | | |
# |---|---|
# | **You will be able to** | split bending from stretching (A5.1); compute curvature by Gauss' equation (A5.2); say which layer made it (A5.3); measure it without derivatives, at kinks too (A5.4); predict its mean from size and two numbers |
# | **Time** | 70 minutes; `full` computes for 2 to 5 more |
# | **You need** | A2: the pullback metric; the chain rule twice (A4's $q^*$, $\chi$ are recalled) |
# | **Sources** | Gauss 1828; Milnor 1950; Poole et al. 2016; Di Lillo 2025 |

# %% tags=["parameters"]
profile: str = "fast"     # "full": deeper, thrice the sheets and loops
nets: int = 8             # networks behind an interval
depth: int = 6            # affine maps of every network, at least 3
width: int = 64           # units of a hidden layer of the sheets
wide: int = 1000          # units where the limit of width is tested
activation: str = "tanh"  # a smooth name of labkit.theory
sigma_b: float = 0.3      # biases; the weights are tuned to χ = 1
seed: int = 2026          # weights
device: str = "cpu"       # "cuda" on a machine with an NVIDIA GPU

# %%
full = setup(profile, seed, device)
deep = 30 if full else depth - 1          # layers after the first
torch.set_default_dtype(torch.float64)
torch.set_grad_enabled(False)             # nothing is trained here
repeats = 3 * nets if full else nets
data = datasets.fashion_mnist(device=device)
first = [int((data.test.labels == k).nonzero()[0]) for k in (1, 3, 9)]
plane = planes.plane_through(data.test.inputs[first])
sigma_w = float(meanfield.critical_line(activation, sigma_b))
sheets = [mlp(depth, width, activation, sigma_w, sigma_b, n_in=784,
              seed=seed + k, device=device) for k in range(repeats)]

# %% [markdown]
# **Predict.** Put a round 2-sphere into a wide random tanh network that keeps lengths in the mean ($\chi = 1$). After five layers, how many times as bent is its
# image as a round sphere of that size? Bending is $|II|^2$, defined below.

# %%
my_guess = None           # a positive number; 1 means as bent
predict("A5.p1", my_guess)

# %% [markdown]
# ## The idea in one picture
#
# Walk through the middle of the sheet at speed 1. The image moves with velocity $Df\,u$ and acceleration $D^2\!f(u,u)$. Part of this points along the walk: it gets faster or slower.
# The rest stands at right angles: the walk *bends*.

# %% tags=["figure"] mystnb={"image": {"alt": "The image of a straight walk near one point, with its acceleration drawn as an arrow, split into a tangent part and a normal part, and the circle that fits the curve best there."}}
net, u = sheets[0], plane.basis[:, :1]
walk = net.jet(plane.origin[None], basis=u)
velocity, a = walk.first[0, :, 0], walk.second[0, :, 0, 0]
II = curvature.second_fundamental_form(walk)[0, :, 0, 0]
axes = nn.functional.normalize(torch.stack([velocity, II]))
time = torch.linspace(-16, 16, 161, device=device)[:, None]
curve = (net(plane.origin + time * u.mT) - walk.value) @ axes.mT
speed, parts = float(velocity.norm()), axes @ a
print(f"speed {speed:.4f}; along {parts[0]:.5f}, across {parts[1]:.5f}")
print(f"radius {speed**2 / parts[1]:.2f}, speed² / across")
bending.split(curve, speed, parts,
              "Only the normal part of the acceleration bends")

# %% [markdown] tags=["reads"]
# In the middle of the sheet one step arrives with length 0.2530. Of the acceleration 0.01720 points backwards: another clock would remove it. The other 0.02094 stand across, and no clock
# helps. The circle that fits best has radius $|Df\,u|^2/|II(u,u)| = 3.06$, one over the curvature $\kappa$. (Here $II$ is normal to the *curve*, $k = 1$.)

# %% [markdown]
# ## The statement
#
# Let $U \subseteq \mathbb{R}^k$ be open, $f : U \to \mathbb{R}^n$ $C^3$ with $Df$ injective everywhere, $g = Df^\top Df$ its pullback metric, $P_\perp$ the projection onto what is normal to the image. The **second fundamental form** is
# $II(u, v) = P_\perp\, D^2\!f(u, v)$; in an orthonormal frame $|II|^2 = \sum |II_{ij}|^2$, $\operatorname{tr} II = \sum II_{ii}$. **Then the Riemann tensor of $g$, signed so that spheres have $R_{0101} > 0$, is (Gauss)**
#
# $$R_{ijkl} = \langle II_{ik},\, II_{jl}\rangle - \langle II_{il},\, II_{jk}\rangle.$$
#
# So $g$ alone, lengths on the sheet, knows this combination of how it bends in space.

# %% [markdown]
# *Proof.* New coordinates add to $D^2\!f$ only $Df$ of something, which $P_\perp$ removes. So the right side is a tensor, as $R$ is. Choose coordinates with $\partial g = 0$
# at our point ($x$ plus a suitable quadratic). There the textbook formula reads
#
# $$R_{ijkl} = \tfrac12\bigl(\partial_i\partial_l g_{jk} + \partial_j\partial_k g_{il} - \partial_i\partial_k g_{jl} - \partial_j\partial_l g_{ik}\bigr).$$
#
# Insert $g_{ij} = \langle f_i, f_j\rangle$, $f_i = \partial_i f$. Each term gives four products, such as

# %% [markdown]
# $$\partial_i\partial_l \langle f_j, f_k\rangle = \langle f_{ijl}, f_k\rangle + \langle f_{ij}, f_{kl}\rangle + \langle f_{jl}, f_{ik}\rangle + \langle f_j, f_{ikl}\rangle.$$
#
# In the sum all third derivatives cancel in pairs, all $\langle f_{ij}, f_{kl}\rangle$ too, and what is left, halved, is $\langle f_{ik}, f_{jl}\rangle - \langle f_{il}, f_{jk}\rangle$. There $f_{ij} = II_{ij}$, as
# $\langle f_{ij}, f_k\rangle = \tfrac12(\partial_i g_{jk} + \partial_j g_{ik} - \partial_k g_{ij}) = 0$. $\square$
#
# *What it needs.* Rank $k$: at a fold or a cusp there is no $II$. Smoothness: at a kink there is no $D^2\!f$.

# %% [markdown]
# ## Measure: three surfaces, each one hidden layer
#
# For a surface, $k = 2$, all of $R$ is one number, **Gauss' curvature** $K = R_{0101}/\det g$. In an orthonormal frame, summed over all pairs, the equation reads
#
# $$2K = |\operatorname{tr} II|^2 - |II|^2 .$$
#
# (The library has $2K$ as scalar curvature $S$, $\operatorname{tr} II$ as twice the mean curvature.)
# As $\cos u \cos v = \tfrac12\cos(u{+}v) + \tfrac12\cos(u{-}v)$, the sphere is a network: affine, sine, affine. So are the torus and the Clifford torus $(\cos u, \sin u, \cos v, \sin v)$.
# We know their $K$: 1, $\cos v/(2 + \cos v)$, and 0.

# %%
uv = torch.pi * (2 * torch.rand(100, 2) - 1)          # all around
cos_v = uv[:, 1].cos()
made = {"sphere": (surfaces.sphere(), 1 + 0 * cos_v),
        "torus": (surfaces.torus(), cos_v / (2 + cos_v)),
        "Clifford torus": (surfaces.clifford_torus(), 0 * cos_v)}
for name, (chain, K) in made.items():
    jet = chain.jet(uv)
    S = curvature.scalar_curvature(jet)
    II2 = 4 * curvature.mean_curvature(jet).square().sum(1) - S
    print(f"{name}: K off by {(S / 2 - K).abs().max():.0e}, "
          f"|II|² from {II2.min():.2f} to {II2.max():.2f}")

# %% tags=["figure"] mystnb={"image": {"alt": "A sphere, a torus and a Clifford torus projected to three dimensions. The sphere is evenly orange, the torus orange outside and blue inside, the Clifford torus colourless. A scale of colour for K stands at the right."}}
drawn, s = {}, torch.linspace(-1, 1, 41) * torch.pi
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
# All agree to rounding. The Clifford torus has $|II|^2 = 2.00$ everywhere, as much as the sphere, and yet $K = 0$: it
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
# Differentiate a chain twice: each link adds one term (Faà di Bruno),
#
# $$D^2\!f(u,v) = \sum_l J_L \cdots J_{l+1}\; D^2\!f_l\,(J_{l-1}\cdots J_1 u,\; J_{l-1}\cdots J_1 v).$$
#
# For an affine link $D^2\!f_l = 0$. For an elementwise one it is $\varphi''(h)\,u\,v$, unit by unit. So one function of one number makes all curvature; affine maps only carry it on.

# %% [markdown]
# Let $II^l$ be $P_\perp$ of term $l$; they sum to $II$. $K$ is quadratic in $II$, so a sum over *pairs* of layers, the **bill**; own terms are $B_{ll}$.
#
# $$2B_{lm} = \langle \operatorname{tr} II^l, \operatorname{tr} II^m\rangle - \langle II^l, II^m\rangle .$$
#
# A layer's *share* is its row sum. Here layers are $h \mapsto W\varphi(h) + b$; the first is affine. Over the sheet, $\int K\,dA$ is its **integral curvature**; a sphere has $4\pi$.

# %%
x, side, bills, missed = plane.at(plane.grid(24, 23.0)), 2.0, [], []
for net in sheets:
    jet = net.jet(x, basis=plane.basis, by_link=True)
    area = side**2 * torch.linalg.det(jet.first.mT @ jet.first).sqrt()
    entries, S = curvature.bill(jet), curvature.scalar_curvature(jet)
    off = (entries.sum(2).sum(1) - S).abs().max() / S.abs().max()
    missed.append(off)
    bills.append((entries * area[:, None, None] / 2).sum(0))
bills = torch.stack(bills)
print(f"the rows' sum is the whole, to {max(missed):.0e} of it at most")

# %% tags=["figure"] mystnb={"image": {"alt": "A 6 by 6 table of numbers: the first row and column are zero, framed diagonal entries negative, most others positive. Beside it bars of row sums and ticks of own terms, whose sums differ."}}
whole, own = bills.sum((1, 2)), bills.diagonal(dim1=1, dim2=2).sum(1)
claim("A5.c1", own - whole, predicted=0)
print("whole:", *(f"{value:.2f}" for value in whole))
print("own:  ", *(f"{value:.2f}" for value in own))
bending.bill(bills[0], "Own terms do not add up to the curvature")

# %% [markdown] tags=["reads"]
# Rows sum to the whole to rounding. The diagonal misses it by $-4.5 \pm 1.3$ rad (±: four standard errors): the claim fails. An own term is the curvature with
# *that layer alone* nonlinear, all others linearised, anew at each point. In all eight networks these sum to a saddle (in the limit of width one layer of erf is nowhere a ball: Zavatone-Veth et al. 2023). Most of what is ball comes from pairs.

# %% [markdown]
# ## A witness who never differentiates twice
#
# Carry an arrow around the border of the sheet, never turning it *in the sheet*: parallel transport. It comes home turned by $\int K\,dA$, up to multiples of $2\pi$ (Gauss and Bonnet). Each step needs first derivatives only.

# %%
edge = torch.linspace(-24, 24, 201, device=device)[:-1]
far = torch.full_like(edge, 24.0)
way = plane.at(torch.cat([torch.stack(pair, 1) for pair in (
    (edge, -far), (far, edge), (-edge, far), (-far, -edge))]))
arrows = torch.stack([curvature.holonomy(
    net, way[None], basis=plane.basis)[0] for net in sheets])
print("arrow:", *(f"{angle:.2f}" for angle in arrows))
apart = torch.remainder(whole - arrows + torch.pi, 2 * torch.pi)
claim("A5.c2", apart - torch.pi, predicted=0)

# %% [markdown] tags=["reads"]
# The two differ by $-0.0001 \pm 0.0084$ rad.

# %% [markdown]
# ## Exercise A5.3 · a layer's share
#
# Write `shares(forms)`, the row sums of the bill of $K$, from the layers' $II^l$ in an orthonormal frame, $(L, n, 2, 2)$.

# %% tags=["exercise"]
def shares(forms):
    """What each layer contributes to K, (L,); they sum to K."""
    ...

check("A5.3", shares)     # stuck? hint("A5.3"), solution("A5.3")

# %% [markdown]
# ## How strongly: size and two numbers
#
# In wide random networks two inputs with cosine $c$ leave a layer with cosine $C(c)$ (A4). Every layer keeps a mean square $q^*$. Of $l$ layers composed let $A = C'(1) = \chi^l$ and
# $\Gamma = C''(1)$; if *critical*, $\chi = 1$, then $\Gamma = l\gamma$. Let the pre-activations form a $d$-sphere of squared radius $Nq^*$, $\varphi$ be smooth, $l$ fixed. As $N \to \infty$ its image's $NK \to 1/(q^* A)$, and in the mean
#
# $$N|II|^2 \to \frac{d + d(d{+}2)\,\Gamma/A}{q^* A}, \qquad N|\operatorname{tr} II|^2 \to \frac{d^2 + d(d{+}2)\,\Gamma/A}{q^* A}.$$

# %% [markdown]
# *Sketch.* The image tends to a Gaussian field with covariance $q^* C(\cos\theta)$. Its first and second derivatives at a point are uncorrelated: the tangent part drops out. Fourth derivatives at $\theta = 0$ give
# $\mathbb{E}|II(u,u)|^2 \propto 3\Gamma + A$ (the recursion of Poole et al., solved), $\Gamma + A$ for $\langle II(u,u), II(v,v)\rangle$, $\Gamma$ for $|II(u,v)|^2$. *In the mean of $2K$ the $\Gamma$ cancel; at finite width they remain as noise.*

# %%
tuned = activation, sigma_w, sigma_b
mf = meanfield.MeanField(*tuned)
q, layers = float(mf.q_star), torch.arange(deep + 1)
law = kernel_jets.kernel_jet([tuned] * deep, q)
law2 = great_sphere.second_fundamental_form(law, 2)
law_tr2 = great_sphere.mean_curvature(law, 2)
round2 = 2 / (law.q * law.chi_tot)        # |II|² if it were round
print(f"q* = {q:.4f}, χ = {mf.chi_1:.4f}, γ = {mf.gamma:.4f}")

# %%
spots, found = 2 * torch.rand(8, 2, device=device) - 1, {}
for n, count in ((100, 8 * nets), (wide, 4 * nets)):
    found[n] = torch.empty(2, count, deep + 1, 8)   # N|tr II|², NS
    for k in range(count):
        ball = surfaces.sphere((n * q) ** 0.5, n, seed=seed + k)
        net = mlp(deep, n, *tuned, seed=seed + k, device=device)
        chain = Chain([*ball, *net]).to(device)
        for at, jet in enumerate(list(chain.jets(spots))[len(ball):]):
            trace = 2 * curvature.mean_curvature(jet)
            S = curvature.scalar_curvature(jet)
            found[n][:, k, at] = n * torch.stack([(trace**2).sum(1), S])

# %%
five = depth - 1
for n, (trace2, S) in found.items():
    norm2, K = (trace2 - S).mean(2), S / round2[:, None]
    ratio = (norm2 / law2)[:, five]
    print(f"N = {n}: |II|² {ratio.mean():.2f} of the law, "
          f"± {4 * ratio.std() / len(ratio)**0.5:.2f}; "
          f"K scatters by {K[:, five].std():.2f}")
K, trace2 = K.mean(2), trace2.mean(2)     # means over spots, N wide

# %% tags=["figure"] mystnb={"image": {"alt": "Squared second fundamental form, squared trace and mean Gauss curvature of a sphere's image against depth, relative to a round sphere of that size: measured points of the first two on straight rising lines, far above 1, those of the third near 1."}}
claim("A5.c3", (norm2 / round2)[:, five], predicted=1)
claim("A5.c4", ratio, predicted=1)
claim("A5.c5", (trace2 / law_tr2)[:, five], predicted=1)
claim("A5.c8", K[:, five], predicted=1)
names = "$|II|^2$", "$|\\mathrm{tr}\\,II|^2$", "$K$"
measured = norm2 / round2, trace2 / round2 / 2, K
lines = law2 / round2, law_tr2 / round2 / 2, torch.ones(deep + 1)
curves.laws(layers, dict(zip(names, measured)), dict(zip(names, lines)),
            f"Bending grows, mean $K$ stays ($d = 2$, $N = {wide}$)",
            xlabel="layers", ylabel="over a round sphere's")

# %% [markdown] tags=["reads"]
# Measured over predicted, nothing fitted, is $1.023 \pm 0.048$ and $1.024 \pm 0.052$. Mean $K$ is $1.04 \pm 0.16$ of a round sphere's; single points scatter by 0.56, at width 100 by 1.97. *It keeps lengths, so it does not bend* fails:
# $|II|^2$ is $10.58 \pm 0.49$ times a round sphere's. Compare your guess. Every layer adds $4\gamma$, four times 0.4670.

# %% [markdown]
# ## Count instead
#
# **Milnor (1950).** *The total curvature $\int\kappa\,ds \ge 0$ of a closed curve, the angle through which its direction turns, is $\pi$ times the mean number of extrema of isotropic random readouts $\langle w, f\rangle$.*
#
# *Proof, for polygons; curves are their limits.* Where it turns by $\theta$ a readout turns round if and only if $w^\perp$ separates the two directions: probability $\theta/\pi$. Add up. $\square$
#
# No width occurs. Try narrow networks on a circle in the photographs' plane, 4,000 readouts each.

# %%
loop = plane.at(plane.circle(400, 20.0))
turns, extrema = torch.empty(2, repeats)
for k in range(repeats):
    net = mlp(3, 20, *tuned, n_in=784, seed=seed + k, device=device)
    angle = curvature.total_curvature(net, loop[None], closed=True)
    steps = net(loop).diff(dim=0, append=net(loop[:1]))
    rising = steps @ torch.randn(20, 4000).to(device) > 0
    turns_round = rising != rising.roll(1, 0)     # at an extremum
    turns[k], extrema[k] = angle[0] / torch.pi, turns_round.sum() / 4000
print(f"{turns.min():.2f} π to {turns.max():.2f} π")
claim("A5.c6", extrema / turns, predicted=1)

# %% [markdown] tags=["reads"]
# The ratio is $0.9994 \pm 0.0047$. Networks differ much, 3.16 π to 4.48 π; the theorem holds for each. At initialisation a logit is a
# readout: curvature counts how often it turns round along a loop.

# %% [markdown]
# ## Explore: one readout
#
# (1) At depth 1, how many extrema has a readout, and why? (2) Has any fewer than two? (3) With ReLU at depth 6, what changes?
#
# <details><summary>Answers</summary>(1) Two: an affine image of a circle is an ellipse. (2) No, so every closed curve turns by at least 2π (Fenchel). (3) It is ragged, and turns nearly seven times as much, at many corners.</details>

# %% tags=["figure"] mystnb={"image": {"alt": "Left the image of a loop in the photographs' plane, in its two widest directions, right one random readout along it; its extrema are marked on both. Titles give the total curvature over pi and the mean number of extrema, which agree."}}
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
# A *linear* network, $\varphi(h) = h$: no curvature at any depth, and a circle keeps turning by $2\pi$ (at rank 2). And ReLU: $\varphi'' = 0$ almost everywhere, so by the bill it should bend nothing.

# %%
relu = "relu", 2**0.5, 0.0
for kind in (("linear", 1.0, sigma_b), relu):
    net = mlp(4, 50, *kind, n_in=784, seed=seed, device=device)
    jet = net.jet(plane.origin[None], basis=plane.basis, kinks="ignore")
    angle = curvature.total_curvature(net, loop[None], closed=True)
    K = curvature.scalar_curvature(jet)[0] / 2
    print(f"{kind[0]}: K = {K:.0e}, "
          f"a circle turns by {angle[0] / torch.pi:.1f} π")
try:
    net.jet(plane.origin[None])
except ValueError as refusal:
    print("jets:", str(refusal).split(",")[0])

# %% [markdown] tags=["reads"]
# The bill says 0, the loop turned by 15.1 π: *piecewise linear, so flat* is wrong. Where a unit switches, the direction jumps; no derivative sees it.
#
# On a great circle (this loop is none) each of $N$ units vanishes twice, and there the direction turns by $\sqrt{\pi/N}$, both in the mean ($\sigma_w^2 = 2$, no biases, large $N$). Assuming that the corners of $l$ layers add up, it turns by some $\pi\,(2 + 2\,l\sqrt{N/\pi})$.

# %%
widths = (16, 32, 64, 128, 256) if full else (16, 32, 64, 128)
kinds = {f"{activation}, critical": (*tuned, q), "relu": (*relu, 1.0)}
turns = {name: torch.empty(repeats, len(widths)) for name in kinds}
for name, (*kind, q_0) in kinds.items():
    for at, n in enumerate(widths):
        way = torch.linspace(0, 2 * torch.pi, 200 * n + 1)[:-1]
        equator = torch.stack([way, 0 * way], 1)[None].to(device)
        for k in range(repeats):
            ball = surfaces.sphere((n * q_0) ** 0.5, n, seed=seed + k)
            net = mlp(2, n, *kind, seed=seed + k, device=device)
            turns[name][k, at] = curvature.total_curvature(Chain(
                [*ball, *net]).to(device), equator, closed=True)[0]

# %% tags=["figure"] mystnb={"image": {"alt": "Total curvature over pi against width on logarithmic axes after two layers. ReLU points climb along the square root law, tanh points stay near a horizontal line."}}
for name, rows in turns.items():
    rows /= torch.pi
    means = rows.log().mean(0).exp()      # as the picture's axis
    print(f"{name}:", *(f"{mean:.2f}" for mean in means))
roots = torch.tensor([great_sphere.relu_extrema(2, n) for n in widths])
jets = kernel_jets.kernel_jet([tuned] * 2, q)
smooth = great_sphere.extrema(jets)[-1] + 0 * roots
claim("A5.c7", (turns["relu"] / roots)[:, 3], predicted=1)
print(f"limit for {activation}: {smooth[0]:.2f}")
curves.laws(widths, turns, dict(zip(turns, (smooth, roots))),
            f"Width bends ReLU, not critical {activation}", log=True,
            xlabel="width", ylabel="total curvature / $\\pi$")

# %% [markdown] tags=["reads"]
# At width 128 ReLU turns by $0.994 \pm 0.068$ of the law. Eight times the width takes it from 11.41 to 27.34; tanh goes from 3.51 to 3.76, limit $2\sqrt{1 + 3\Gamma/A} = 3.90$. Narrow networks have a larger mean $|II|^2$ (at width 100 $1.28 \pm 0.15$ of the law) and yet turn less. ReLU has $\gamma = \infty$.

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
# Columns: trouser, dress, boot; shares, over the sum of their sizes. Only the two GELU pay. At the trouser the second makes nearly all, and it is a ball (0.94); at the dress the same makes a saddle (−0.81); at
# the boot the first does. Curvature belongs to a network *and* a place.

# %% [markdown]
# ## Recap
#
# | signal propagation says | geometry says | you compute |
# |---|---|---|
# | second-order term of a small step | $D^2\!f$: stretching and bending | `chain.jet(x)` |
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
# <details><summary>2. Two wide networks, χ = 1, equal q*, have γ = 0.05 and 2. Where is a sphere's mean K larger?</summary>In neither: in the mean wrinkles cancel.</details>
# <details><summary>3. The image of a circle turns by 9π. How many extrema has a readout?</summary>Nine in the mean, each time an even number.</details>

# %% [markdown]
# **Discuss.** (1) Is a large $|II|^2$ good for a classifier? (2) Own terms are negative here, the sphere's is positive. Elementwise $\langle D^2\!f(u,u), D^2\!f(v,v)\rangle = |D^2\!f(u,v)|^2$, so before $W$ only minus the tangent part is left. What differs? (3) What should replace the bill for ReLU?
#
# **Read on.** do Carmo 1992, Riemannian geometry, ch. 6 · Milnor 1950, On the total curvature of knots · Poole et al. 2016 · Di Lillo 2025, critical points · Zavatone-Veth et al. 2023.

# %%
progress()
