# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A2 · The pullback metric
#
# Three photographs span a plane of pictures. At each point, all steps that the network makes equally long form an ellipse, drawn enlarged: narrow means
# sensitive, orange small in truth (areas grow more than on average). Magenta lines part the answers. Drag depth, then training.
# **At the logits, which steps are felt, and how much longer are some made than others?**

# %% tags=["figure"] mystnb={"image": {"alt": "A field of ellipses over the plane through a trouser, a dress and a boot. Circles at the input; thin, differently turned ellipses at the logits, largest in volume where the classes meet. Beside it each ellipse as a dot: its distortion across, its log-volume upwards."}}
from functools import partial

import torch
from torch import nn

from labkit import Chain
from labkit.geometry import fisher, geodesics, metric
from labkit.geometry.planes import plane_through
from labkit.geometry.spectra import log_spectrum
from labkit.lessons import check, claim, explore, hint, predict
from labkit.lessons import progress, setup, solution
from labkit.networks import mlp
from labkit.plots import curves, ellipses
from labkit.training import datasets
from labkit.training.loop import fit

explore("A2")

# %% [markdown]
# | | |
# |---|---|
# | **You will be able to** | write the metric of a network (A2.1) · measure a walk of photographs (A2.2) · draw its ellipse (A2.3) · choose a classifier's metric (A2.4) · know when it misleads |
# | **Time** | 60 minutes; `full` runs for 5 |
# | **You need** | A1; eigenvalues of a 2 × 2 matrix |
# | **Sources** | Hauser & Ray 2017; Tissot 1881; Amari 2016 (Fisher); Bolte & Pauwels 2021 |

# %% tags=["parameters"]
profile: str = "fast"     # "full" trains three times as many networks
nets: int = 6             # networks behind every interval
depth: int = 6            # layers of every network, at least 2
width: int = 64           # units of a hidden layer
activation: str = "tanh"  # any smooth name of labkit.theory
seed: int = 2026          # weights and shuffles
device: str = "cpu"       # "cuda" on a machine with an NVIDIA GPU

# %%
full = setup(profile, seed, device)
torch.set_default_dtype(torch.float64)
repeats = 3 * nets if full else nets
data = datasets.fashion_mnist(device=device)
first = [int((data.test.labels == k).nonzero()[0]) for k in (1, 3, 9)]
photos = data.test.inputs[first]
plane = plane_through(photos)
apart = torch.cdist(photos, photos)
print(f"trouser to dress {apart[0, 1]:.1f}, to boot {apart[0, 2]:.1f}")

# %% [markdown]
# **Predict.** At a photograph take the ten directions in which photographs vary most, and their mixtures. A network stretches one step most, one least; the
# quotient is its *distortion*. Training on 5,000 photographs multiplies it by some factor; above 1 ellipses become thinner. Which factor (geometric mean),
# at the last hidden layer? (*Depth* $l$ is layer $l$'s affine output, before the activation.)

# %%
my_guess = None           # a positive number; 1 means unchanged
predict("A2.p1", my_guess)

# %% [markdown]
# ## The idea in one picture
#
# Let $e_1, e_2$ be an orthonormal basis of the plane. Stand in the middle of the photographs and take every step of length 1 in it. The differential sends this circle to an ellipse, with half-axes
# $\sigma_1 \ge \sigma_2$, its singular values there. Now ask backwards: which steps *arrive* with length 1? Again an ellipse, with half-axes $1/\sigma_1$ and $1/\sigma_2$.

# %%
build = partial(mlp, depth, width, n_in=784, n_out=10, device=device)
fresh, trained = ([build(activation, 1.4, 0.3, seed=seed + k)
                   for k in range(repeats)] for _ in range(2))
learn = partial(fit, data=data, epochs=8, lr=1e-3, batch_size=100)
right = [learn(net, seed=seed + k).accuracy[-1]
         for k, net in enumerate(trained)]
for one in fresh + trained:
    one.requires_grad_(False)
print(f"{repeats} networks, right on {torch.stack(right).mean():.1%}")

# %% tags=["figure"] mystnb={"image": {"alt": "A unit circle of steps; its image, an ellipse with the two singular values as half-axes; and the ellipse of steps with unit images, whose half-axes are their reciprocals."}}
net = trained[0]
frame = (net.linearize(plane.origin[None]) @ plane.basis)[0]
_, stretches, steps = torch.linalg.svd(frame, full_matrices=False)
for k, s in enumerate(stretches, 1):
    print(f"σ{k} = {s:.3f}, 1/σ{k} = {1 / s:.3f}")
print(f"distortion {stretches[0] / stretches[1]:.2f}")
ellipses.unit_steps(
    stretches, steps,
    "The direction stretched most needs the shortest step")

# %% [markdown] tags=["reads"]
# $Df$ sends the orange unit step to length 1.001, the blue one to 0.253. To arrive as 1 the first has to be 0.999 long, the second 3.946: a
# distortion of 3.95. The opening picture shows the right-hand ellipse everywhere, enlarged to fit. Mapmakers know it as Tissot's indicatrix: the slice
# is the map, its image among the logits the globe.

# %% [markdown]
# ## The statement
#
# Let $f: U \to \mathbb{R}^m$ be $C^1$ on an open $U \subseteq \mathbb{R}^n$. The **pullback metric** measures a step of the input (A1's nudge) by its image:
#
# $$g_x(v, w) = \langle Df(x)\,v,\; Df(x)\,w\rangle = v^\top g_x\, w, \qquad g_x = Df(x)^\top Df(x).$$
#
# **Then for every $C^1$ curve $c : [0,1] \to U$:** $\;\operatorname{length}(f \circ c) = \displaystyle\int_0^1 \sqrt{\dot c^\top g_c\, \dot c}\;dt.$
#
# *Proof.* By the chain rule $(f\circ c)' = Df(c)\,\dot c$ is continuous, with norm $\sqrt{\dot c^\top g_c\,\dot c}$; length is the integral of speed. $\square$
#
# With the links of A1, $g_x = J_1^\top \cdots J_L^\top J_L \cdots J_1$. On a plane area grows by $\sqrt{\det g} = \sigma_1\sigma_2$; its log is the **log-volume**.

# %% [markdown]
# *What it needs.* Always $g \ge 0$; definite exactly where $Df$ is injective, elsewhere a **pseudo-metric**, blind along $\ker Df$. ReLU is only piecewise $C^1$, yet its curves
# obey the formula, whatever its slope at 0: at almost every moment when a unit sits on its kink, its velocity is 0 (Bolte & Pauwels 2021).
#
# Axes, distortion and log-volume compare $g$ with Euclid's metric on pixels: a choice.

# %% [markdown]
# ## Measure: the metric, without a derivative
#
# Lengths can be had by walking. Move 81 pictures a little along $e_1$ and $e_2$, both ways: how far do the logits move? Nothing
# is differentiated. If $f$ is $C^3$, the inner products of these differences are $g$ up to the square of the step.

# %%
at = plane.grid(9, 24.0)
x = plane.at(at)
g = metric.pullback_metric(net.linearize(x), plane.basis)
for h in (1e-1, 1e-2, 1e-3):
    moved = torch.stack([net(x + h * e) - net(x - h * e)
                         for e in plane.basis.mT], dim=2) / (2 * h)
    error = (moved.mT @ moved - g).abs().max() / g.abs().max()
    print(f"step {h:g}: relative error {error:.0e}")

# %% [markdown]
# ## Exercise A2.1 · the metric from a Jacobian
#
# Write `metric_from(J)`: the metric of a map with Jacobian `J`, $m \times n$. One product. There are two ways to put the transpose; one compares
# steps of the input, the other rows of $J$.

# %% tags=["exercise"]
def metric_from(J):
    """The pullback metric (n, n) of a map with Jacobian (m, n)."""
    ...

check("A2.1", metric_from)
# hint("A2.1")      # without the "#": a rung of the ladder
# solution("A2.1")  # after you have tried

# %% [markdown]
# ## A walk of photographs
#
# Go straight from the trouser to the boot. At the logits the way is a curve. Send nine of its
# photographs through the network and add the distances between neighbours: a polygon.

# %% tags=["figure"] mystnb={"image": {"alt": "Nine photographs from trouser to boot, fading into each other, and between neighbours the distance of their logits: small beside the trouser, largest in the middle."}}
start, end = plane.corners[0], plane.corners[2]
t = torch.linspace(0, 1, 4097, device=device)
way = plane.at(start + t[:, None] * (end - start))
nine = way[::512]
gaps = net(nine).diff(dim=0).norm(dim=1)
chord = (net(way[-1:]) - net(way[:1])).norm()
print(f"polygon {gaps.sum():.2f}, chord {chord:.2f}; gaps differ up to "
      f"{gaps.max() / gaps.min():.1f} times")
curves.strip(nine.reshape(-1, 28, 28), gaps,
             "Most of the length is made in the middle",
             ends=("trouser", "boot"), note="Numbers: distance of the"
             " neighbours' logits; orange above the mean, blue below.")

# %% [markdown] tags=["reads"]
# The trouser stays a trouser for long: gaps differ up to 16.3 times. The polygon is 18.45 long, the chord 13.62: the way is bent. Is 18.45 the curve's length?
#
# The theorem tells, from metric and velocity. A polygon is never too long. If the network is $C^2$ and the image never halts,
# each of $N$ pieces misses $O(N^{-3})$, all together $O(N^{-2})$. If the image is bent: twice the photographs, a quarter of the error.

# %%
pieces, short = [2**k for k in range(3, 10)], []
for one in trained:
    middles = one.linearize(way[1::2], dense=False)   # 2,048 of them
    g = metric.pullback_metric(middles, plane.basis)
    length = metric.norm(g, end - start).mean()       # t from 0 to 1
    short.append(geodesics.missing_length(one, way, pieces,
                                          length=length))

# %% tags=["figure"] mystnb={"image": {"alt": "What the polygon misses, against its number of pieces, on logarithmic axes. The points lie on a line of slope minus two."}}
short = torch.stack(short)
print("relative:", *(f"{e:.1e}" for e in short[0] / gaps.sum()))
claim("A2.c1", (short[:, -4] / short[:, -1]) ** (1 / 3), predicted=4)
curves.orders(pieces, {activation: short}, {activation: -2},
              "Twice the photographs, a quarter of the error",
              xlabel="pieces of the polygon", ylabel="missing length",
              over="networks")

# %% [markdown] tags=["reads"]
# Eight pieces miss 3.5e-02 of the length, 512 pieces 9.6e-06. The line has slope $-2$ and is fixed by the last point alone. From 64 pieces on,
# each doubling divides the error by $3.9964 \pm 0.0092$ (± is four standard errors, here over six networks).

# %% [markdown]
# ## Exercise A2.2 · the length of a curve
#
# Write `length(g, v, dt)`: metrics `g` of shape $(T, n, n)$ and velocities `v` of shape $(T, n)$; each pair holds for a time `dt`. The check walks along spirals in polar
# coordinates, where $g = \operatorname{diag}(1, r^2)$ and the length is known in closed form.

# %% tags=["exercise"]
def length(g, v, dt):
    """The length of a curve with metric g and velocity v."""
    ...

check("A2.2", length)     # stuck? hint("A2.2"), solution("A2.2")

# %% [markdown]
# ## Explore: where length is made
#
# Click into the slice to set where the segment ends. (1) At depth 1 the image is straight: why? (2) Where is the curve orange: inside the magenta
# borders, or on them? (3) Find two ends far apart in the slice, close at the logits. What are they called?
#
# <details><summary>Answers</summary>(1) One affine layer. (2) Mostly on them. (3) By one name.</details>

# %% tags=["figure"] mystnb={"image": {"alt": "A straight segment over the slice and its image at the chosen depth in the plane where it is widest, both coloured by local speed, with length and chord."}}
explore("A2.curve", activation=activation, seed=seed)

# %% [markdown]
# ## Exercise A2.3 · the semi-axes
#
# Write `semi_axes(g)` for $\{v : v^\top g\,v = 1\}$, the longer first. In an eigenbasis the equation reads $\lambda_1 a^2 + \lambda_2 b^2 = 1$. Keep apart the
# eigenvalue $\lambda$, the stretch $\sigma = \sqrt\lambda$, and the axis.

# %% tags=["exercise"]
def semi_axes(g):
    """Both semi-axes of {v : vᵀ g v = 1}, the longer first."""
    ...

check("A2.3", semi_axes)  # stuck? hint("A2.3"), solution("A2.3")

# %% [markdown]
# ## Distortion through depth
#
# Leave the plane for 100 photographs, with the ten directions in which 5,000 others vary most. A distortion $\sigma_{\max}/\sigma_{\min}$ of 1 would be
# an isometry up to scale. In the *lazy* limit (NTK scaling, infinite width) training does not move the hidden layers at all. Does it here?

# %%
real = data.test.inputs[:100]
spread = torch.linalg.eigh(torch.cov(data.train.inputs.mT))
directions = spread.eigenvectors[:, -10:]
thin = {name: torch.stack([log_spectrum(
    net.linearize(real), directions, depths=range(1, depth + 1)
    ).log_distortion().mean(1) for net in group])
    for name, group in (("untrained", fresh), ("trained", trained))}

# %% tags=["figure"] mystnb={"image": {"alt": "Mean log-distortion against depth, over networks, with intervals. It grows with depth, and after training it lies well above its value before, at every depth."}}
for name, values in thin.items():
    print(f"{name}:", *(f"{m:.2f}" for m in values.mean(0)))
factor = (thin["trained"] - thin["untrained"])[:, -2].exp()
claim("A2.c2", factor, predicted=1)
curves.by_depth(thin, "Training raises the distortion at every depth",
                ylabel="mean log-distortion (nats)", over="networks",
                unchanged=(0, "isometry, up to scale"))

# %% [markdown] tags=["reads"]
# Without training the log-distortion climbs from 0.76 to 2.12 over five layers (A4 finds it growing at every weight scale). Training lifts it at every depth; at the last hidden layer by a
# factor of $3.35 \pm 0.34$, where the lazy limit says 1. The jump at depth 6 comes from the shape: a 10 × 10 matrix has a tiny least singular value.

# %% [markdown]
# ## Directions that are not seen at all
#
# Ten logits cannot hold 784 directions: $\ker Df$ has dimension at least 774, and on it $g$ is 0. Take a step from one photograph towards another; remove what $Df$
# sees. To first order nothing happens at the logits. If $f$ is $C^2$, a step $sv$ with $v \in \ker Df$ moves them by $\tfrac12 s^2 D^2\!f(v, v) + o(s^2)$; A5 is about that term.

# %%
x, J = real[:50], torch.stack([
    one.linearize(real[:50]).dense() for one in trained])
print(f"rank {torch.linalg.matrix_rank(J).unique().tolist()} of 784")
for name, v in {"noise": torch.randn_like(x),
                "photograph": real[50:] - x}.items():
    step = nn.functional.normalize(v)[..., None]
    unseen = step - torch.linalg.pinv(J) @ (J @ step)
    print(f"{name}: unseen {unseen.square().sum(2).mean():.1%}")

# %% tags=["figure"] mystnb={"image": {"alt": "Change of the logits against the length of the step, on logarithmic axes: slope one for the whole step, slope two for its unseen part, which stays far below."}}
sizes, moved = 2.0 ** torch.arange(-10, 4, device=device), {}
for name, ways in (("whole step", repeats * [step]),
                   ("unseen part", unseen)):
    far = torch.stack([one(x + sizes[:, None, None] * v[..., 0])
                       - one(x) for one, v in zip(trained, ways)])
    moved[name] = mean = far.norm(dim=3).log().mean(2).exp()
    at_1, at_8 = mean[:, [10, 13]].log().mean(0).exp()
    print(f"{name}: {at_1:.4f} at 1, {at_8:.2f} at 8")
claim("A2.c3", mean[:, 1] / mean[:, 0], predicted=4)
curves.orders(sizes.cpu(), moved, {"whole step": 1, "unseen part": 2},
              "Blind directions answer to second order only",
              xlabel="length of a step", over="networks",
              ylabel="change of the logits")

# %% [markdown] tags=["reads"]
# Of noise 98.8 % (squared) is unseen, the kernel's share 774/784; of a step between photographs only 97.2 %. At length 1 the whole step moves the logits by 0.1740, its unseen
# part by 0.0040. Near length 1/1024 halving divides that by $4.000118 \pm 0.000058$. At length 8 it is a fifth of the whole. A metric speaks about small steps; A3 walks on by them.

# %% [markdown]
# ## The output metric is a choice
#
# So far $|\cdot|$ on the logits was Euclid's. But softmax forgets any common shift: $z$ and $z + c(x)\,\mathbf 1$ are one classifier in two *gauges*. Log-probabilities are such
# a gauge, and so is adding thrice the first logit to all. Do the ellipses belong to the classifier, or to the gauge?

# %% [markdown]
# The way out is to measure what the classifier says. For probabilities $p$ the **Fisher metric** is, if $f$ is $C^3$,
#
# $$G_x = J^\top\bigl(\operatorname{diag} p - p\,p^\top\bigr) J, \qquad \mathrm{KL}\bigl(p(x)\,\|\,p(x+v)\bigr) = \tfrac12 v^\top G_x v + O(|v|^3).$$
#
# The middle matrix kills $\mathbf 1$: no shift can enter. Euclid on $p$ is shift-free too; what singles Fisher out is KL, and Čencov's theorem (Amari 2016). It is
# Euclid's metric of $2\sqrt p$, on a sphere of radius 2.

# %%
gauges = {"logits": [], "shifted logits": [lambda z: z + 3 * z[:, :1]],
          "log-probabilities": [nn.LogSoftmax(1)]}
x = plane.at(at)
p, lin = net(x).softmax(1), net.linearize(x)
G = fisher.on_inputs(lin, p, basis=plane.basis)[:, 0, 0]
for s in (0.1, 0.01):
    log_q = net(x + s * plane.basis[:, 0]).log_softmax(1)
    divergence = (p * (p.log() - log_q)).sum(1)
    error = (divergence - s**2 * G / 2).norm() / divergence.norm()
    print(f"step {s}: the Fisher metric misses KL by {error:.1%}")

# %% tags=["figure"] mystnb={"image": {"alt": "Six fields of ellipses over the slice. Upper row, Euclidean metric: three gauges, three different fields. Lower row, Fisher metric: the same field three times, largest where classes meet."}}
found = {(by, name): [] for by in ("Euclid", "Fisher")
         for name in gauges}
for (by, name), metrics in found.items():
    for one in trained:
        lin = Chain([*one, *gauges[name]]).linearize(x, dense=False)
        metrics.append(
            metric.pullback_metric(lin, plane.basis) if by == "Euclid"
            else fisher.on_inputs(lin, one(x).softmax(1),
                                  basis=plane.basis))
ellipses.fields({key: metric.ellipse(g[0]) for key, g in found.items()},
    at, "Euclid's ellipses change with the gauge, Fisher's do not")

# %%
mean = {key: metric.ellipse(torch.stack(g)).log_distortion.mean(1)
        for key, g in found.items()}
for by, name in (("Euclid", "A2.c4"), ("Fisher", "A2.c5")):
    change = mean[by, "shifted logits"] - mean[by, "logits"]
    claim(name, change, predicted=0)

# %% [markdown] tags=["reads"]
# Upper row: one classifier, three fields. Ellipses turn, change their distortion, trade places in log-volume. The shift moves Euclid's mean log-distortion by $0.48 \pm 0.30$: it does not belong
# to the classifier. Lower row: Fisher's field, the same three times to rounding. It foretells the divergence to 5.2 % at
# steps of 0.1, to 0.5 % at 0.01. A6 pulls the same metric back to the weights.

# %% [markdown]
# ## Exercise A2.4 · the Fisher metric
#
# Write `fisher_metric(J, z)`: the Fisher metric on the inputs, from the logits `z` and their Jacobian `J`. The matrix between the two factors you have met: in A1.4 it was
# the Jacobian of softmax.

# %% tags=["exercise"]
def fisher_metric(J, z):
    """The Fisher metric (n, n); z (C,) logits, J (C, n)."""
    ...

check("A2.4", fisher_metric)   # stuck? hint("A2.4")

# %% [markdown]
# ## Where it fails
#
# ReLU keeps the theorem but not the $C^2$ behind the factor 4: its image has corners. With unit tangents $T_s$ along a piece
#
# $$(\text{chord} / \text{length})^2 = 1 - \tfrac12 \,\operatorname{mean}\,|T_s - T_t|^2.$$
#
# Smooth tangents turn in proportion to the way: half the piece, a quarter of the squared turning. And at corners? The speed jumps now, so compare with a polygon of 65,536 pieces.

# %%
kinked = [build("relu", 2**0.5, 0.0, seed=seed + k)
          for k in range(repeats)]
for k, one in enumerate(kinked):
    learn(one, seed=seed + k)
    one.requires_grad_(False)
t = torch.linspace(0, 1, 65537, device=device)
fine = start + t[:, None] * (end - start)      # points of the plane

# %% tags=["figure"] mystnb={"image": {"alt": "Missing length against pieces for tanh, slope minus two, and for ReLU, slope minus one."}}
broken = torch.stack([geodesics.missing_length(
    Chain([plane.at, *one]), fine, pieces) for one in kinked])
factor = (broken[:, 0] / broken[:, -1]) ** (1 / 6)
claim("A2.c6", factor, predicted=4)
claim("A2.c7", factor, predicted=2)
curves.orders(pieces, {activation: short, "relu": broken},
              {activation: -2, "relu": -1}, "Kinks cost an order",
              xlabel="pieces of the polygon", ylabel="missing length",
              over="networks")

# %%
on = torch.cat([h > 0 for h in kinked[0].states(way)[1:-1]], dim=1)
print("corners on the way:", (on[1:] != on[:-1]).sum().item())
for name, one in ((activation, net), ("relu", kinked[0])):
    T = nn.functional.normalize(one(way).diff(dim=0))
    turned = torch.stack([(T[k:] - T[:-k]).square().mean()
                          for k in (8, 16, 32, 64, 128)])
    print(f"{name}, squared turning, each time twice the way: ×",
          *(f"{r:.2f}" for r in turned[1:] / turned[:-1]))

# %% [markdown] tags=["reads"]
# A doubling divides ReLU's error by $2.009 \pm 0.083$: the claim of 4 fails, as it should, and 2 holds. The first network's 181 turns are irregular, like a random walk's:
# their squares add, at every scale. The formula did not fail, the smoothness did. A5 counts what kinks bend.

# %% [markdown]
# ## Your own model
#
# Any `nn.Sequential` is a chain. Here is an untrained convolutional network at the same three photographs. Put yours in its place (`cut` of A1 makes
# a chain of any module).

# %%
torch.manual_seed(seed)
model = nn.Sequential(
    nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 8, 5, 2), nn.GELU(),
    nn.Conv2d(8, 16, 5, 2), nn.GELU(), nn.Flatten(), nn.Linear(256, 10))
chain = Chain(model.to(device).requires_grad_(False))
g = metric.pullback_metric(chain.linearize(photos), plane.basis,
                           depths=range(1, len(chain) + 1))
ratios = metric.ellipse(g).log_distortion.exp()
for name, row in zip(chain.names, ratios):
    print(f"{name:12s}", *(f"{ratio:6.2f}" for ratio in row))

# %% [markdown] tags=["reads"]
# Columns: trouser, dress, boot. A linear link has one metric for all places: 1.06 three times. GELU makes the metric depend on where you stand. The last map, 256 numbers into ten, hardly changes the distortion at the
# trouser (1.21 to 1.19) and nearly doubles it at the boot (1.24 to 2.26). Distortion belongs to a network *and* a place. A5 asks the same network who bends.

# %% [markdown]
# ## Recap
#
# | signal propagation says | geometry says | you compute | goes on in |
# |---|---|---|---|
# | a perturbation grows by | the length of a step, $\sqrt{v^\top g\,v}$ | `metric.norm(g, v)` | A3, A4 |
# | most and least sensitive direction | half-axes $1/\sigma_1$ and $1/\sigma_2$ | `metric.ellipse(g)` | A4 |
# | conditioning of the Jacobian | distortion $\sigma_{\max}/\sigma_{\min}$ | `log_spectrum(lin).log_distortion()` | A4 |
# | invisible perturbation | $\ker Df$: $g$ is a pseudo-metric | `log_spectrum(lin).rank` | A3 |
# | sensitivity of the prediction | Fisher metric | `fisher.on_inputs(lin, p)` | A6 |
#
# Next, A3 asks which directions *must* be in the kernel.

# %% [markdown]
# **Quiz.** Answer before you open.
#
# <details><summary>1. In the opening picture two ellipses have one shape, one is orange, one blue. Where does a small step change more?</summary>At the orange one: it is truly smaller.</details>
# <details><summary>2. All logits are multiplied by 10. What happens to the Euclidean ellipses?</summary>They shrink by 10, their distortion stays. Fisher's change too: the classifier is more certain.</details>

# %% [markdown]
# <details><summary>3. Two photographs have the same logits. Is every curve between them of length 0?</summary>Usually not: its image is a loop, of length 0 only if constant.</details>
# <details><summary>4. How far apart can two predictions be in the Fisher metric of all probability vectors?</summary>At most π: 2√p lies on a sphere of radius 2, its coordinates not negative: a quarter of a great circle.</details>

# %% [markdown]
# **Discuss.** (1) Which metric would you put on hidden layers? Which changes of basis should it survive? (2) Training raised the distortion. Is that bad? (3) And if the photographs were whitened first?
#
# **Read on.** Hauser & Ray 2017, Principles of Riemannian geometry in neural networks · Amari 2016, ch. 1–3 · Bolte & Pauwels 2021 · Chizat, Oyallon & Bach 2019, On lazy training.

# %%
progress()
