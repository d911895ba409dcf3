# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A3 · Symmetry and the kernel of the metric
#
# A handwritten digit turns about its middle. All round, the curve says how strongly a network feels a small further turn: 1 is as
# strongly as equally long steps towards other pictures. Magenta: the answer is wrong. Turn it, then change the training.
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
# | **You need** | A2: pullback metric and kernel; complex eigenvalues; Fourier series; pseudo-inverse |
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
steps = data.test.inputs[100:200] - x      # towards another picture
print(data)

# %% [markdown]
# **Predict.** *Augmentation*: each time a digit is shown in training, it is first turned by a random angle up to 30°. Train six ordinary networks so. On new
# digits, how strongly do they feel a small turn? 1 is as strongly as a step towards another picture, 0 not at all.

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
# Turned by 30° pixels fall between pixels: you must interpolate, and choose how. Hermite functions of the plane turn among those of equal order; so do their counterparts on $8 \times 8$ points (Wolf & Vicent 2011). That makes
# an exact group of orthogonal matrices $T(t) = e^{tG}$, $T(2\pi) = 1$. Smooth pictures turn as you expect; digits ring, and even $T(\pi/2)$ is not the quarter turn of the pixels:

# %%
def beside(a, b):
    """How far a is from b, relative to the digits."""
    return f"{((a - b).norm(dim=1) / x.norm(dim=1)).mean():.0%}"

tilted, quarter = (turn.move(x, torch.pi / k) for k in (6, 2))
print("30°, outside 0 ... 1:", beside(tilted, tilted.clip(0, 1)))
pixels = x.unflatten(1, (8, 8)).rot90(1, (1, 2)).flatten(1)
print("T(pi/2) beside turned pixels:", beside(quarter, pixels))

# %% [markdown]
# ## The statement
#
# Let orthogonal matrices $T(t) = e^{tG}$ act on $\mathbb{R}^n$, and let $f: \mathbb{R}^n \to \mathbb{R}^m$ be $C^1$ with pullback metric $g$. $G$ is the *generator*, $Gx$ the velocity of the orbit at $x$.
#
# **Invariance.** $f(T(t)x) = f(x)$ for all $t$ and $x$ if and only if $Df(x)\,Gx = 0$ for all $x$.
#
# **Equivariance.** If $f(T(t)x) = \rho(t) f(x)$ for all $t$ and $x$, with orthogonal $\rho(t)$, then $g_{Tx}(Tv, Tw) = g_x(v, w)$: the group acts by **isometries** of the semi-metric $g$.

# %% [markdown]
# *Proof.* Along an orbit $\frac{d}{dt} f(T(t)x) = Df(T(t)x)\,G\,T(t)x$. If $f$ is constant there, put $t = 0$; if this is 0 everywhere, $f$ is constant. Second,
# the derivative of $f(Tx) = \rho f(x)$ by $x$ is $Df(Tx)\,T = \rho\,Df(x)$, and $\rho$ keeps inner products. $\square$
#
# So with orthogonal $\rho$ a turn is felt equally all along an orbit: $GT = TG$, and $T$ keeps lengths.

# %% [markdown]
# *What it needs.* **A velocity**: invariance under finitely many moves, such as the four $T(k\pi/2)$, says nothing about $Df(x)\,Gx$ at a given $x$. **Exactness**: nearly constant values may have
# large slopes. **Orthogonality** of $\rho$, for the second part, with respect to the metric of the output; it is used only on the image of $Df(x)$.

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
# $G$ is antisymmetric and $T(2\pi) = 1$, so its eigenvalues are $i$ times whole numbers, *degrees*: eigenvectors give coordinates $z_j \mapsto e^{im_jt} z_j$. Degree $m \ge 1$ has $8 - m$ of them; products $z_i \bar z_j$ within it do not change,
# $7^2 + \dots + 1^2 = 140$ numbers, nor do the 8 of degree 0. Put these 148 before an ordinary network, and train it on upright digits.

# %%
def build(n_in, k):
    return mlp(depth, width, activation, 1.2, 0.1, n_in=n_in,
               n_out=10, seed=seed + k, device=device)

def learn(net, k):
    return loop.fit(net, data, epochs=30, batch_size=128,
                    seed=seed + k, progress=False).accuracy[-1]

def say(name, values, form=".2f"):
    v = torch.stack(values)
    half = 4 * v.std() / len(v)**0.5
    print(f"{name}: {v.mean():{form}} ± {half:{form}}")

# %%
forget = symmetric.Invariants(turn)
blind = [Chain([forget, *build(148, k)]) for k in range(repeats)]
right = [learn(net, k) for k, net in enumerate(blind)]
say("right on new digits", right, ".1%")
ratio, v = [], turn.velocity(x)
for net in blind:
    lin = net.requires_grad_(False).linearize(x)
    largest = torch.linalg.matrix_norm(lin.dense(), 2)
    ratio.append((sensitivity.stretch(lin, v) / largest).max())
claim("A3.c1", ratio, predicted=0)

# %% [markdown]
# Zero to rounding at every digit, beside the largest singular value. ± is four standard errors over networks.
#
# ## The kernel is larger than the orbit
#
# Does the network see all but the orbit? Ten logits leave a kernel of at least 54 dimensions (A2). So look before the logits, where 64 pixels
# become 148 invariants. How much do these lose?

# %% tags=["figure"] mystnb={"image": {"alt": "The last fifteen of 64 log singular values of the map from pixels to invariants: 57 are finite, the last seven are crosses on the line of exactly zero."}}
spectrum = spectra.log_spectrum(Chain([forget]).linearize(x[:50]))
claim("A3.c2", 64 - spectrum.rank, predicted=1)
print("degrees:", turn.degrees.unique().tolist())
lines.spectra({"pixels to invariants": spectrum.values[0]},
              "Seven directions are lost, the orbit is one", first=50)

# %% [markdown]
# "The kernel is the orbit" fails: at a digit seven dimensions are lost. Products within a degree forget the phase of *each* degree from 1 to 7, and are invariant under seven independent
# phases; a turn moves them in step. Only products across degrees, such as $z_i^2 \bar z_k$ with $m_k = 2m_i$, would notice.

# %% [markdown]
# ## Equivariance: the group acts by isometries
#
# A layer that commutes with every $T(t)$ passes the turn on. Any matrix does after a mean over all turns (A3.3); a nonlinearity does if it scales the part of each degree by a function of its length.
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
# of its size. Equivariant is not yet isometric. Invariance is $\rho = 1$: isometries, and orbits of length 0.

# %% [markdown]
# ## Exercise A3.3 · make a matrix respect a symmetry
#
# Write `commuting(W, Ts)`: the mean of `W` over a finite group of orthogonal matrices `Ts`, of shape $(K, n, n)$. The result has to commute with each of them: the
# Reynolds operator.

# %% tags=["exercise"]
def commuting(W, Ts):
    """The matrix nearest to W, by Frobenius, that commutes with Ts."""
    ...

check("A3.3", commuting)  # stuck? hint("A3.3"), solution("A3.3")

# %% [markdown]
# ## Four turns leave no velocity
#
# Average a network over the four turns $T(k\pi/2)$ of its input, and train it so, on upright digits: it is exactly invariant under these. Does it ignore a small turn?
# One number for 100 digits: the root mean square of A3.2 for the turn, over that for steps towards another picture.

# %%
def spread(x):
    return torch.cat([turn.move(x, k * torch.pi / 2) for k in range(4)])

def gather(y):
    return y.unflatten(0, (4, -1)).mean(0)

four = [build(64, k) for k in range(repeats)]
right = [learn(Chain([spread, *net, gather]), k)
         for k, net in enumerate(four)]
say("right on new digits", right, ".1%")

# %%
mean = [Chain([turn.average(net.requires_grad_(False), 4)])
        for net in four]
moved = mean[0](turn.move(x, torch.pi / 2)) - mean[0](x)
print(f"after a quarter: {moved.abs().max():.0e}")
each = [sensitivity.relative_stretch(net.linearize(x, dense=False),
        turn.velocity(x), steps) for net in mean]
claim("A3.c5", each, predicted=0)

# %% [markdown] tags=["reads"]
# It feels the turn more than other steps: $1.230 \pm 0.094$. Four values on the orbit agree; between them the logits are free to move, and somewhere there each rests. No finite group forces a
# zero at a digit.

# %% [markdown]
# ## Learnt invariance
#
# Most networks are shown a symmetry. Ask for turns and for shifts; none saw both. A shift gets its generator from the Fourier series of each row: what leaves on one
# side comes back on the other. But the fastest wave, $1, -1, 1, \dots$, stays: $T(1)$ is nearly, not exactly, one pixel.

# %%
Moved = augmentation.Moved
shown = {"upright": Moved(turn, 0), "turned": Moved(turn, torch.pi / 6),
         "turned all ways": Moved(turn, torch.pi),
         "shifted": Moved(slide, 1)}    # 0°, 30°, all; 1 pixel
groups = {}
for name, front in shown.items():
    groups[name] = [build(64, k) for k in range(repeats)]
    say(f"{name}, right", [learn(Chain([front, *net]), k)
        for k, net in enumerate(groups[name])], ".1%")
    for net in groups[name]:
        net.requires_grad_(False)

# %% tags=["figure"] mystnb={"image": {"alt": "Relative sensitivity to turns and shifts of four groups of networks with intervals. Trained on upright digits both are near 0.85; with turns shown, turns sink to 0.34, with all turns to 0.28; with shifts shown, shifts sink to 0.37. None is near zero."}}
acts = {"a turn": turn, "a shift": slide}
felt_by = {(name, kind): torch.stack([sensitivity.relative_stretch(
    net.linearize(x), act.velocity(x), steps) for net in group])
    for name, group in groups.items() for kind, act in acts.items()}
claim("A3.c6 turn", felt_by["turned", "a turn"], predicted=0)
say("all ways", list(felt_by["turned all ways", "a turn"]))
claim("A3.c6 shift", felt_by["shifted", "a shift"], predicted=0)
intervals.intervals(
    felt_by, "Augmentation lowers what it shows, but not to zero",
    xlabel="felt, relative to a step towards another picture",
    references={"invariant": 0, "like any step": 1}, over="networks")

# %%
for degrees in (0, 15, 30, 45, 60):
    there, v = (turn.move(a, degrees * torch.pi / 180)
                for a in (x, steps))
    say(f"turned, at {degrees}°", [sensitivity.relative_stretch(
        net.linearize(there), turn.velocity(there), v)
        for net in groups["turned"]])

# %% [markdown] tags=["reads"]
# Compare your guess: $0.34 \pm 0.04$, not zero. Shown all turns $0.28 \pm 0.03$, but right on 82.7 ± 6.1 % only. The loss asks for right answers at the turns shown, never for a slope.
# Nor does the calm reach further: $1.04 \pm 0.14$ at 60°. A symmetry by design holds at every input; here it costs 1 or 2 per cent of right answers. (Thrice 97.6 % is chance.)

# %% [markdown]
# ## Walks that are not felt
#
# What is in the 54 dimensions of an ordinary network's kernel? Start from the three, let a zero pull, and keep of the pull only the part in the kernel:
#
# $$\dot x = P(x)\,(x_{\text{target}} - x),$$
#
# $P(x)$ the orthogonal projection on it. For smooth $f$ of constant rank, $P$ is smooth, and $f$ is constant along this **null curve** (Benfenati & Marta 2022).

# %% tags=["figure"] mystnb={"image": {"alt": "Six pictures of a walk from a three: it fades, two strokes of a zero appear, and the network's answer stays three with the same probability in all of them."}}
net = groups["upright"][0]
path = null_curve(net, three, ten[0], 60, time=3, method="midpoint")
some = torch.cat([path[[0, 6, 12, 24, 60], 0], ten[:1]])
said = [f"{p.argmax()}, {p.max():.1%}" for p in net(some).softmax(1)]
gone, left = (some[4] - three).norm(), (some[4] - ten[0]).norm()
drift = (net(some[4:5]) - net(three)).norm()
print(f"walked {gone:.2f}, {left:.2f} to go; logits, up to "
      f"{net(three).max():.1f}, moved by {drift:.4f}")
pictures.row(some.reshape(-1, 8, 8), said,
             "The picture changes, the answer stays",
             notes=["start", "0.3", "0.6", "1.2", "$t = 3$", "target"],
             note="Above each picture: the answer and its probability.")

# %% [markdown] tags=["reads"]
# The picture has moved by 2.76 and still is 2.18 from the zero; the logits, up to 6.8, have moved by 0.0007, the integrator's error. Where $Df$ has rank 10, pictures with equal logits form a surface of dimension 54. Hardly
# a direction on it is a symmetry that you would ask for.

# %% [markdown]
# ## Exercise A3.4 · the part that is not felt
#
# Write `unseen_part(J, v)`: what remains of `v` when all that `J` sees is removed. The rows of `J` need be neither orthogonal nor of length 1 nor independent.

# %% tags=["exercise"]
def unseen_part(J, v):
    """The nearest vector to v in the kernel of J (m, n)."""
    ...

check("A3.4", unseen_part)   # stuck? hint("A3.4")

# %% [markdown]
# ## Explore: what it does not feel
#
# Walk by unseen steps, then straight on. (1) Straight on from the three to the zero, when does the answer change? (2) By unseen steps, what changes in the outermost columns, where digits have hardly any ink?
#
# <details><summary>Answers</summary>(1) Between 10 and 20 % of the time. (2) Ink appears there: the network feels these pixels almost as much as others, and the walk uses them to cancel the rest.</details>

# %% tags=["figure"] mystnb={"image": {"alt": "A digit on its walk towards another, the signed change of its pixels so far, and bars of ten logits with lines where they were at the start."}}
explore("A3.walk", activation=activation, seed=seed)

# %% [markdown]
# ## Where it fails
#
# Small is not zero. From 64 pixels to a hidden layer of 64 units there is in general no kernel: the singular values fall far, and end above 0. Walk in the span of the 16 smallest as
# if that were one; it varies smoothly while the 48th and 49th value keep apart (here by 1.3 %). Euler's method with $N$ steps leaves a level set by $O(1/N)$: refine.

# %%
counts, goals = [4, 8, 16, 32, 64], torch.cat([ten[:3], ten[4:]])

def drifts(net, **how):
    """Relative change of the output, for each number of steps."""
    away = torch.stack([net(null_curve(
        net, three.expand(9, -1), goals, N, time=3, **how)[-1])
        for N in counts]) - net(three)
    return (away.norm(dim=2) / net(three).norm()).log().mean(1).exp()

exact = torch.stack([drifts(net) for net in groups["upright"]])

# %%
hiddens = [net[:depth - 1] for net in groups["upright"]]
kept = 3 * width // 4     # 48 of 64
level = torch.stack([drifts(hidden, rank=kept) for hidden in hiddens])
values = torch.stack([spectra.log_spectrum(hidden.linearize(null_curve(
    hidden, three, ten[0], 64, time=3, rank=kept)[:, 0])).values
    for hidden in hiddens]).exp()       # (networks, points, 64)
print(f"singular values 1, {kept}, {kept + 1}, 64:",
      *(f"{v:.3g}" for v in values[0, 0, [0, kept - 1, kept, 63]]))
gap = 1 - values[..., kept] / values[..., kept - 1]
print(f"{kept} and {kept + 1}: at least {gap.min():.1%} apart")

# %% tags=["figure"] mystnb={"image": {"alt": "Drift against steps for two walks: in the kernel of the logits it falls with slope minus one, along small singular directions of a hidden layer it levels off."}}
claim("A3.c7", level[:, -2] / level[:, -1], predicted=2)
curves.orders(counts, {"kernel of $Df$": exact,
                       "small values": level},
              {"kernel of $Df$": -1, "small values": 0},
              "Small singular values leave a drift for good",
              xlabel="steps of the walk, by Euler's method",
              ylabel="relative change of the state",
              over="networks", apart=1.07)

# %% [markdown] tags=["reads"]
# The factor 2 fails: the last doubling divides the drift by $1.026 \pm 0.028$. What remains is no error. It is $\int Df\,\dot x\,dt$ along the walk, the true change of the state, and
# no integrator removes it. Only an exact kernel has null curves.

# %% [markdown]
# ## Your own model
#
# A convolutional network that wraps around at the border and ends in a mean over all places is invariant under shifts by whole pixels, a finite group (not quite the $T(1)$ above). Does it feel a small
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
# Untrained, it feels a whole pixel to rounding only, a small shift 0.021: its nonlinearity makes frequencies that the pixels cannot hold. Turns it feels more, 0.242; for those it was not built.

# %% [markdown]
# ## Recap
#
# | you say | geometry says | you compute |
# |---|---|---|
# | invariant under $T(t)$ | $Gx \in \ker Df(x)$: orbits have length 0 | `sensitivity.stretch(lin, turn.velocity(x))` |
# | equivariant, orthogonally | $T$ is an isometry of $g$ | `metric.pullback_metric` at $x$ and $Tx$ |
# | nearly invariant | orbits are short | `sensitivity.relative_stretch(lin, v, usual)` |
# | an unseen walk | null curve, $P = 1 - Df^+Df$ | `null_curve(chain, x, target, steps)` |
#
# Next, A4 asks what happens to lengths as depth grows.

# %% [markdown]
# **Quiz.**
#
# <details><summary>1. What does invariance under mirror images put into ker Df?</summary>At most pictures nothing: a mirror $S$ has no velocity. At symmetric ones antisymmetric steps: $Df(Sx)\,S = Df(x)$, the proof's second line.</details>
# <details><summary>2. It feels no turn at any test digit. Is it invariant?</summary>Not yet: ask all along orbits.</details>
# <details><summary>3. Can 64 pixels and 100 logits have null curves?</summary>Yes, if the rank is below 64 on an open set; for the 148 invariants it is 57.</details>

# %% [markdown]
# **Discuss.** (1) A six turned by 180° is a nine. Should a network for digits be invariant? (2) Which symmetry of your data has no generator? (3) Is an unseen walk the opposite of an adversarial example, or the same fault? One changes the picture alone, the other hardly more than the answer.
#
# **Read on.** The sources above · Simard et al. 1992, Tangent prop · Jacobsen et al. 2019, Excessive invariance.

# %%
progress()
