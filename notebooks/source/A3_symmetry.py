# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A3 · Symmetry and the kernel of the metric
#
# A handwritten digit turns about its middle. All round, the curve says how strongly a network feels a small further turn: 1 is as
# strongly as equally long steps towards other digits. Magenta: the answer is wrong. Turn the digit, then change the training.
# **Which networks feel the turn less, and which not at all?**

# %% tags=["figure"] mystnb={"image": {"alt": "A digit, the signed picture of its velocity while it turns, and a curve over all angles of how strongly a network feels the turn. Trained on upright digits the curve wanders around one, with augmentation it sinks, and for the invariant network it is zero."}}
import torch
from torch import nn
from labkit import Chain
from labkit.geometry import metric, sensitivity, spectra
from labkit.geometry.null_curves import null_curve
from labkit.lessons import check, claim, explore, hint, predict
from labkit.lessons import progress, setup, solution
from labkit.networks import actions, mlp, symmetric
from labkit.plots import curves, intervals, lines, pictures
from labkit.training import augmentation, datasets, loop

explore("A3")

# %% [markdown]
# | | |
# |---|---|
# | **You will be able to** | write the velocity of a turning picture (A3.1) · measure how strongly it is felt (A3.2) · make a matrix respect a symmetry (A3.3) · walk where a network is blind (A3.4) |
# | **Time** | 60 minutes; `full` runs for some 3 |
# | **You need** | A2: pullback metric and kernel; eigenvalues of a matrix |
# | **Sources** | Bronstein et al. 2021; Wolf & Vicent 2011 (turning pixels without loss); Gruver et al. 2023; Benfenati & Marta 2022 |

# %% tags=["parameters"]
profile: str = "fast"     # "full" trains three times as many networks
nets: int = 6             # networks behind every interval
depth: int = 4            # layers of the ordinary networks, at least 3
width: int = 64           # units of a hidden layer
activation: str = "tanh"  # any smooth name of labkit.theory
seed: int = 2026          # weights and shuffles
device: str = "cpu"       # "cuda" on a machine with an NVIDIA GPU

# %%
full = setup(profile, seed, device)
torch.set_default_dtype(torch.float64)
repeats = 3 * nets if full else nets
data = datasets.digits(scaling="unit", device=device)
first = [int((data.test.labels == k).nonzero()[0]) for k in range(10)]
ten, x = data.test.inputs[first], data.test.inputs[:100]
steps = data.test.inputs[100:200] - x      # towards another digit
print(data)

# %% [markdown]
# **Predict.** *Augmentation*: each time a digit is shown in training, it is first turned by a random angle up to 30°. Train six ordinary networks so. On new
# digits, how strongly do they feel a small turn? 1 is as strongly as a step towards another digit, 0 not at all.

# %%
my_guess = None           # a number, 0 or more
predict("A3.p1", my_guess)

# %% [markdown]
# ## The idea in one picture
#
# Turn one digit all round. Its pictures form a closed curve among all pictures of 64 pixels, its *orbit*. The velocity of that curve is
# a picture too. A network with one output for the whole orbit does not move while its input does: the velocity lies in the kernel.

# %% tags=["figure"] mystnb={"image": {"alt": "The digit three turned by minus 60, minus 30, 0, 30 and 60 degrees, and a signed picture of its velocity: ink leaves the blue pixels and enters the orange ones."}}
turn, slide = actions.rotation(8), actions.shift(8)
three, angles = ten[3:4], torch.tensor([-60.0, -30, 0, 30, 60])
orbit = turn.move(three.expand(5, -1), angles.deg2rad())
back = turn.move(orbit, -angles.deg2rad())
print(f"turned and turned back: {(back - three).abs().max():.0e}")
pictures.row(orbit.reshape(-1, 8, 8),
             [f"${a:.0f}^\\circ$" for a in angles],
             "An orbit is a curve of pictures, its velocity a picture",
             signed=(turn.velocity(three).reshape(8, 8), "$Gx$"),
             note="Grey per radian: orange gains, blue loses.")

# %% [markdown]
# Pixels cannot turn, functions can. So an interpolation is needed, and with it a choice. This one expands the picture in 64 modes of an oscillator on $8 \times 8$ points and
# turns those (Wolf & Vicent 2011). The price is a little ringing; the gain is an exact group: matrices $T(t) = e^{tG}$, orthogonal, with $T(s)T(t) = T(s+t)$ and $T(2\pi) = 1$.

# %% [markdown]
# ## The statement
#
# Let matrices $T(t) = e^{tG}$ act on $\mathbb{R}^n$, and let $f: \mathbb{R}^n \to \mathbb{R}^m$ be $C^1$ with pullback metric $g$. $G$ is the *generator*, $Gx$ the velocity of the orbit at $x$.
#
# **Invariance.** $f(T(t)x) = f(x)$ for all $t$ and $x$ if and only if $Df(x)\,Gx = 0$ for all $x$.
#
# **Equivariance.** If $f(T(t)x) = \rho(t) f(x)$ for all $t$ and $x$, with orthogonal $\rho(t)$, then $g_{Tx}(Tv, Tw) = g_x(v, w)$: the group acts by **isometries** of $g$.

# %% [markdown]
# *Proof.* Along an orbit $\frac{d}{dt} f(T(t)x) = Df(T(t)x)\,G\,T(t)x$. If $f$ is constant there, put $t = 0$; if this is 0 everywhere, $f$ is constant. Second,
# the derivative of $f(Tx) = \rho f(x)$ by $x$ is $Df(Tx)\,T = \rho\,Df(x)$, and $\rho$ keeps inner products. $\square$
#
# So with orthogonal $\rho$ a turn is felt equally all along an orbit: $GT = TG$.

# %% [markdown]
# *What it needs.* **A velocity**: invariance under finitely many moves, such as quarter turns or shifts by whole pixels, says nothing about $Gx$. **Exactness**: nearly constant values may have
# large slopes. **Orthogonality**, for the second part, with respect to the metric of the output; it is used only on the image of $Df(x)$.

# %% [markdown]
# ## Exercise A3.1 · the velocity of a turning picture
#
# Write `turning(x_u, x_v, u, v)`: how fast grey changes at the places $(u, v)$, $u$ to the right, $v$ up, of a picture that turns counter-clockwise about the origin, one radian per unit of time.
# You get its partial derivatives there. Think of where the grey came from.

# %% tags=["exercise"]
def turning(x_u, x_v, u, v):
    """The rate of change of grey at (u, v); all four (n,)."""
    ...

check("A3.1", turning)
# hint("A3.1")      # without the "#": a rung of the ladder
# solution("A3.1")  # after you have tried

# %% [markdown]
# ## Exercise A3.2 · how strongly a direction is felt
#
# Write `felt(J, xi)`: how many times longer a small step along `xi` is after the map than before. A picture with much ink turns with a long velocity;
# that must not count.

# %% tags=["exercise"]
def felt(J, xi):
    """The stretch of a step along xi; J (m, n), xi (n,)."""
    ...

check("A3.2", felt)       # stuck? hint("A3.2"), solution("A3.2")

# %% [markdown]
# ## Measure: invariant by design
#
# In suitable coordinates the turn multiplies complex numbers: $z_j \mapsto e^{im_jt} z_j$, with whole *degrees* $m_j$. Products $z_i \bar z_j$ within a degree $\ge 1$ (140 numbers) and the 8 coordinates
# of degree 0 do not change. Put these 148 before an ordinary network, and train it on upright digits.

# %%
def build(n_in, k):
    return mlp(depth, width, activation, 1.2, 0.1, n_in=n_in,
               n_out=10, seed=seed + k, device=device)

def learn(net, k):
    return loop.fit(net, data, epochs=30, batch_size=128,
                    seed=seed + k, progress=False).accuracy[-1]

forget = symmetric.Invariants(turn)
blind = [Chain([forget, *build(148, k)]) for k in range(repeats)]
right = [learn(net, k) for k, net in enumerate(blind)]
print(f"right on {torch.stack(right).mean():.1%} of new digits")

# %%
ratio, v = [], turn.velocity(x)
for net in blind:
    lin = net.requires_grad_(False).linearize(x)
    largest = torch.linalg.matrix_norm(lin.dense(), 2)
    ratio.append((sensitivity.stretch(lin, v) / largest).max())
claim("A3.c1", ratio, predicted=0)

# %% [markdown]
# Zero to rounding at every digit, beside the largest singular value.
#
# ## The kernel is larger than the orbit
#
# Is the orbit all that the network cannot see? Ten logits leave a kernel of at least 54 dimensions, by the count of A2; the orbit has one. So look before the logits, where 64 pixels
# become 148 invariants. How much do the invariants lose?

# %% tags=["figure"] mystnb={"image": {"alt": "The last fifteen of 64 log singular values of the map from pixels to invariants: 57 are finite, the last seven are crosses on the line of exactly zero."}}
spectrum = spectra.log_spectrum(Chain([forget]).linearize(x[:50]))
claim("A3.c2", 64 - spectrum.rank, predicted=1)
print("degrees:", turn.degrees.unique().tolist())
lines.spectra({"pixels to invariants": spectrum.values[0]},
              "Seven directions are lost, the orbit is one", first=50)

# %% [markdown]
# "The kernel is the orbit" fails: seven dimensions are lost. Products within a degree forget the phase of *each* degree from 1 to 7, and are invariant under seven independent
# phases; a turn moves them in step. Only products across degrees, such as $z_i^2 \bar z_k$ with $m_k = 2m_i$, would notice.

# %% [markdown]
# ## Equivariance: the group acts by isometries
#
# A layer that commutes with every $T(t)$ passes the turn on. Matrices that commute are means, $\overline W = \frac1{2\pi}\int T(t)^\top W\, T(t)\,dt$; a nonlinearity commutes if it scales the part of each degree by a function of its length.
# Stack them: $f(T(t)x) = T(t)f(x)$, 64 numbers to 64.

# %%
follow = [symmetric.equivariant(turn, 3, 3.0, seed=seed + k)
          .to(device).requires_grad_(False) for k in range(repeats)]
skew = nn.Linear(64, 64, bias=False, device=device)
skew.requires_grad_(False)
skewed = [Chain([*net, skew]) for net in follow]

# %%
T, few = turn.matrix(1.0).to(device), x[:20]     # by one radian
size = torch.linalg.matrix_norm
for name, group in (("A3.c3", follow), ("A3.c4", skewed)):
    defect = []
    for net in group:
        here, there = (metric.pullback_metric(net.linearize(p))
                       for p in (few, turn.move(few, 1.0)))
        off = size(T.mT @ there @ T - here) / size(here)
        defect.append(off.mean())
    claim(name, defect, predicted=0)

# %% [markdown] tags=["reads"]
# The second network has one more layer, a fixed random matrix $A$. It is equivariant as well, with $\rho = A\,T A^{-1}$; but that is not orthogonal, and its metric differs by half
# of its size. Equivariant is not yet isometric. An invariant network is the special case $\rho = 1$: isometries, and orbits of length 0.

# %% [markdown]
# ## Exercise A3.3 · make a matrix respect a symmetry
#
# Write `commuting(W, Ts)`: the mean of `W` over a finite group of orthogonal matrices `Ts`, of shape $(K, n, n)$. The result has to commute with each of them. This is the
# Reynolds operator of linear maps.

# %% tags=["exercise"]
def commuting(W, Ts):
    """The nearest matrix to W that commutes with all of Ts."""
    ...

check("A3.3", commuting)  # stuck? hint("A3.3"), solution("A3.3")

# %% [markdown]
# ## Quarter turns leave no velocity
#
# Average a network over $K$ equally spaced turns of its input, and it is exactly invariant under these. Does it then ignore a small turn? First train networks: on
# upright digits, with augmentation by turns, and by shifts.

# %%
Moved = augmentation.Moved
shown = {"upright": Moved(turn, 0), "turned": Moved(turn, torch.pi / 6),
         "shifted": Moved(slide, 1)}      # up to 30°, up to one pixel
groups = {}
for name, front in shown.items():
    groups[name] = [build(64, k) for k in range(repeats)]
    right = [learn(Chain([front, *net]), k)
             for k, net in enumerate(groups[name])]
    for net in groups[name]:
        net.requires_grad_(False)
    print(f"{name}: {torch.stack(right).mean():.1%} right")

# %%
for K in (1, 4, 16, 64):
    mean = [Chain([turn.average(net, K)]).linearize(x[:20], dense=False)
            for net in groups["upright"]]
    each = torch.stack([sensitivity.relative_stretch(
        lin, turn.velocity(x[:20]), steps[:20]) for lin in mean])
    print(f"K = {K}: {each.mean():.4f}")
    if K == 4:
        claim("A3.c5", each, predicted=0)

# %% [markdown] tags=["reads"]
# Relative to other steps, four turns change hardly anything: $0.803 \pm 0.072$. Write $f$ along an orbit as a Fourier series in the angle: the mean keeps the frequencies that are
# multiples of $K$. Those of a smooth network die out fast, to 0.0013 at 64 turns. Fast, but a finite group need not reach *zero*.

# %% [markdown]
# ## Learnt invariance
#
# Most networks are not built for a symmetry, they are shown it. Ask for turns and for shifts; 1 is the root mean square over steps towards another digit. A shift gets its generator from the Fourier series of each row; what leaves on one
# side comes back on the other. No network saw both.

# %% tags=["figure"] mystnb={"image": {"alt": "Relative sensitivity to turns and shifts of three groups of networks with intervals. Trained on upright digits both are near 0.85; with turns shown, turns sink to a third; with shifts shown, shifts do. None is near zero."}}
acts = {"a turn": turn, "a shift": slide}
felt_by = {(name, kind): torch.stack([sensitivity.relative_stretch(
    net.linearize(x), act.velocity(x), steps) for net in group])
    for name, group in groups.items() for kind, act in acts.items()}
for (name, kind), values in felt_by.items():
    print(f"{name} feel {kind}: {values.mean():.2f}")
claim("A3.c6 turn", felt_by["turned", "a turn"], predicted=0)
claim("A3.c6 shift", felt_by["shifted", "a shift"], predicted=0)
intervals.intervals(
    felt_by, "Augmentation lowers what it shows, but not to zero",
    xlabel="felt, relative to a step towards another digit",
    references={"invariant": 0, "like any step": 1}, over="networks")

# %% [markdown] tags=["reads"]
# Augmentation does not make the network invariant. Compare your guess: 0.34, against 0.85 without; two fifths, not zero. The loss never asks for a slope; it asks for right answers
# at the turns shown. Turn the digit of the first picture beyond those 30°: the calm ends. A symmetry by design holds at every input.

# %% [markdown]
# ## Walks that are not felt
#
# What is in the 54 dimensions of an ordinary network's kernel? Start from the three, let a zero pull, and keep of the pull only the part in the kernel:
#
# $$\dot x = P(x)\,(x_{\text{target}} - x), \qquad P(x) = 1 - Df(x)^+ Df(x).$$
#
# For smooth $f$ of constant rank, $P$ is smooth, and $f$ is constant along this **null curve** (Benfenati & Marta 2022).

# %% tags=["figure"] mystnb={"image": {"alt": "Six pictures of a walk from a three: it fades, two strokes of a zero appear, and the network's answer stays three with the same probability in all of them."}}
net = groups["upright"][0]
path = null_curve(net, three, ten[0], 60, time=3, method="midpoint")
some = torch.cat([path[[0, 6, 12, 24, 60], 0], ten[:1]])
chance, label = net(some).softmax(1).max(1)
away, moved = (some - three).norm(dim=1), net(some[4:5]) - net(three)
print(f"walked {away[4]:.2f}, of {away[5]:.2f}; "
      f"logits moved {moved.norm():.4f}")
pictures.row(some.reshape(-1, 8, 8),
             [f"{k}, {p:.1%}" for k, p in zip(label, chance)],
             "The picture walks towards a zero, the answer stays",
             notes=["start", "0.3", "0.6", "1.2", "$t = 3$", "target"],
             note="Above each picture: the answer and its probability.")

# %% [markdown] tags=["reads"]
# The picture has moved by 2.76, where the zero was 3.69 away; the logits have moved by 0.0007. All pictures with these logits form a surface of dimension 54 near here. Hardly a direction
# on it is a symmetry that you would ask for.

# %% [markdown]
# ## Exercise A3.4 · the part that is not felt
#
# Write `unseen_part(J, v)`: what remains of `v` when all that `J` sees is removed. The rows of `J` are neither orthogonal nor of length 1.

# %% tags=["exercise"]
def unseen_part(J, v):
    """The nearest vector to v in the kernel of J (m, n)."""
    ...

check("A3.4", unseen_part)   # stuck? hint("A3.4")

# %% [markdown]
# How still are the logits? On the exact curve they rest. Euler's method goes straight along the kernel, and each step leaves the level set by its square (A2); $N$ steps together miss $O(1/N)$. The midpoint rule takes
# its direction half a step ahead, and misses $O(1/N^2)$.

# %%
counts, goals = [4, 8, 16, 32, 64], torch.cat([ten[:3], ten[4:]])

def drift(net, **how):
    """Relative change of the output, for each number of steps."""
    away = torch.stack([net(null_curve(
        net, three.expand(9, -1), goals, N, time=3, **how)[-1])
        for N in counts]) - net(three)
    return (away.norm(dim=2) / net(three).norm()).log().mean(1).exp()

drifts = {way: torch.stack([drift(net, method=way)
                            for net in groups["upright"]])
          for way in ("euler", "midpoint")}

# %% tags=["figure"] mystnb={"image": {"alt": "Drift of the logits against the number of steps, on logarithmic axes: slope minus one for Euler's method, minus two for the midpoint rule."}}
for way, factor in (("euler", 2), ("midpoint", 4)):
    claim(f"A3.c7 {way}", drifts[way][:, -2] / drifts[way][:, -1],
          predicted=factor)
curves.orders(counts, {"Euler": drifts["euler"],
                       "midpoint": drifts["midpoint"]},
              {"Euler": -1, "midpoint": -2},
              "The drift is the integrator's, not the network's",
              xlabel="steps of the walk",
              ylabel="relative change of the logits",
              over="networks")

# %% [markdown] tags=["reads"]
# Doubling the steps divides the drift by $2.072 \pm 0.018$ and by $4.137 \pm 0.019$; the excess is the next order, large where steps are few. So the drift belongs to the integrator: the walk itself is not felt at all.

# %% [markdown]
# ## Explore: what it does not feel
#
# Walk by unseen steps, then straight on. (1) Straight on from the three to the zero, when does the answer change? (2) By unseen steps, what changes in the outermost columns, where digits have hardly any ink?
#
# <details><summary>Answers</summary>(1) Within a fifth of the time. (2) Ink appears there: the network never learnt to mind it.</details>

# %% tags=["figure"] mystnb={"image": {"alt": "A digit on its walk towards another, the signed change of its pixels so far, and bars of ten logits with lines where they were at the start."}}
explore("A3.walk", activation=activation, seed=seed)

# %% [markdown]
# ## Where it fails
#
# Small is not zero. From 64 pixels to a hidden layer of 64 units there is no kernel: the singular values fall far, and end above 0. Walk in the span of the 16 smallest as
# if that were a kernel, and refine the steps.

# %%
hiddens = [net[:depth - 1] for net in groups["upright"]]
kept = 3 * width // 4     # 48 of 64
s = spectra.log_spectrum(hiddens[0].linearize(three)).values[0].exp()
print(f"singular values 1, {kept}, {kept + 1}, 64:",
      *(f"{v:.3g}" for v in s[[0, kept - 1, kept, 63]]))
level = torch.stack([drift(hidden, rank=kept) for hidden in hiddens])

# %% tags=["figure"] mystnb={"image": {"alt": "Drift against steps for two walks: in the kernel of the logits it falls with slope minus one, along small singular directions of a hidden layer it levels off."}}
claim("A3.c8", level[:, -2] / level[:, -1], predicted=2)
curves.orders(counts, {"kernel of $Df$": drifts["euler"],
                       "small values": level},
              {"kernel of $Df$": -1, "small values": 0},
              "Small singular values leave a drift for good",
              xlabel="steps of the walk, by Euler's method",
              ylabel="relative change of the state",
              over="networks", apart=1.07)

# %% [markdown] tags=["reads"]
# The claim of 2 fails: the last doubling divides the drift by $1.026 \pm 0.028$. What remains is no error. It is $\int Df\,\dot x\,dt$ along the walk, the true change of the state, and
# no integrator removes it. (That the two meet at 64 steps is chance.) Only an exact kernel has null curves.

# %% [markdown]
# ## Your own model
#
# A convolutional network that wraps around at the border and ends in a mean over all places is invariant under shifts by whole pixels: a finite group. Does it feel a small
# shift? Put yours in its place.

# %%
model = nn.Sequential(
    nn.Unflatten(1, (1, 8, 8)),
    nn.Conv2d(1, 16, 3, padding=1, padding_mode="circular"), nn.GELU(),
    nn.Conv2d(16, 16, 3, padding=1, padding_mode="circular"), nn.GELU(),
    nn.AvgPool2d(8), nn.Flatten(), nn.Linear(16, 10))
chain = Chain(model.to(device).requires_grad_(False))
pixel = x.unflatten(1, (8, 8)).roll(1, 2).flatten(1)
print(f"a whole pixel: {(chain(pixel) - chain(x)).abs().max():.0e}")
lin = chain.linearize(x, dense=False)
for name, act in (("shift", slide), ("turn", turn)):
    ratio = sensitivity.relative_stretch(lin, act.velocity(x), steps)
    print(f"a small {name}: {ratio:.3f}")

# %% [markdown] tags=["reads"]
# Untrained as it is, it feels a whole pixel to rounding only, a small shift 0.021: its nonlinearity makes frequencies that the pixels cannot hold. Turns it feels more, 0.242; for those it was not built.

# %% [markdown]
# ## Recap
#
# | you say | geometry says | you compute |
# |---|---|---|
# | invariant under $T(t)$ | $Gx \in \ker Df(x)$: orbits have length 0 | `sensitivity.stretch(lin, turn.velocity(x))` |
# | equivariant, orthogonally | $T$ is an isometry of $g$ | `metric.pullback_metric` at $x$ and $Tx$ |
# | nearly invariant | orbits are short | `sensitivity.relative_stretch(lin, v, usual)` |
# | an unseen walk | null curve | `null_curve(chain, x, target, steps)` |
#
# Next, A4 asks what happens to lengths as depth grows.

# %% [markdown]
# **Quiz.** Answer before you open.
#
# <details><summary>1. A network is invariant under mirror images. What does that put into ker Df?</summary>At most pictures nothing: a mirror has no velocity. At a symmetric picture, all antisymmetric steps.</details>
# <details><summary>2. A network feels no turn at any test digit. Is it invariant?</summary>Not necessarily: the theorem asks for zero all along the orbits.</details>
# <details><summary>3. Can a network of 64 pixels and 100 logits have null curves?</summary>Yes, where its rank stays below 64.</details>

# %% [markdown]
# **Discuss.** (1) A six turned by 180° is a nine. Should a network for digits be invariant? (2) Which symmetry of your data has no generator? (3) Is an unseen walk the opposite of an adversarial example, or the same fault?
#
# **Read on.** The sources above · Simard et al. 1992, Tangent prop · Jacobsen et al. 2019, Excessive invariance.

# %%
progress()
