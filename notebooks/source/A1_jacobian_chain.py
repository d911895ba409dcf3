# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A1 · The Jacobian chain
#
# A handwritten digit enters an untrained residual network of eight blocks. You nudge it towards another digit. At one depth the middle picture shows what the
# *Jacobian chain* foretells of the nudge, the right one what becomes of it. Move the depth; then make the nudge larger.
# **Which single object knows the answer for every nudge at once?**

# %% tags=["figure"] mystnb={"image": {"alt": "Three 8 by 8 pictures: the state of the network at one depth, the nudge pushed there by the Jacobian chain, and the true difference. The last two look alike while the nudge is small."}}
import numpy as np
import torch
from torch import nn
from torch.func import jvp, vjp

from labkit import Chain, cut
from labkit.geometry.spectra import log_spectrum
from labkit.lessons import check, claim, explore, hint, predict
from labkit.lessons import progress, setup, solution
from labkit.lessons.cost import multiplications
from labkit.networks import mlp, transformer
from labkit.plots import curves, lines, matrices
from labkit.training import datasets
from labkit.training.loop import fit

explore("A1.nudge")

# %% [markdown]
# | | |
# |---|---|
# | **You will be able to** | push a nudge without a matrix (A1.1) · differentiate a skip (A1.2), a ReLU network (A1.3), softmax (A1.4) · say when the chain is *not* the derivative |
# | **Time** | 60 minutes; with `full` the machine computes for 2 |
# | **You need** | 00; the chain rule, matrix products |
# | **Sources** | Hauser & Ray 2017; Golden 2025 (ReLU networks as matrices); Kim et al. 2021 (attention) |

# %% tags=["parameters"]
profile: str = "fast"     # "full" takes three times as many networks
nets: int = 6             # networks behind every interval
depth: int = 6            # layers of the network whose cost is counted
seed: int = 2026          # weights and shuffles
device: str = "cpu"       # "cuda" on a machine with an NVIDIA GPU

# %%
full = setup(profile, seed, device)
torch.set_default_dtype(torch.float64)   # identities, to rounding
repeats = 3 * nets if full else nets
data = datasets.digits(device=device)    # pixels: mean 0, variance 1
x, labels = data.test                    # so |x| is about 8

# %% [markdown]
# **Predict.** A network takes 64 pixels to 10 *logits*, one number a class. You want all $10 \times 64$ partial derivatives. You may push nudges forward, one pixel
# at a time, or pull logits backward, one at a time. How many times dearer is the forward way?

# %%
my_guess = None           # a number: cost forward / cost backward
predict("A1.p1", my_guess)

# %% [markdown]
# ## The idea in one picture
#
# Take a network apart into *links* $f_1, \dots, f_L$: affine maps, nonlinearities, whole blocks. (A *layer*, a nonlinearity and an affine map, is two links or one.)
# Each link has a Jacobian, a plain matrix, at the state that enters it. Multiply them, each later link on the left, and you hold the differential of the network at
# this image.

# %% tags=["figure"] mystnb={"image": {"alt": "Three matrices drawn as images, the Jacobians of three links, an equals sign, and their product, which has ten rows and sixty-four columns."}}
models = [nn.Sequential(nn.Linear(64, 32), nn.Tanh(),
                        nn.Linear(32, 10)).to(device)
          for _ in range(repeats)]
lin = Chain(models[0]).linearize(x[:1])
matrices.factors([jacobian[0] for jacobian in lin], lin.dense()[0],
                 "Df is the product of the Jacobians of three links")

# %% [markdown]
# Read it from the right: $J_1$ mixes pixels into 32 units, $J_2$ is diagonal, because $\tanh$ acts on each unit alone, $J_3$ mixes units into logits. The product forgets who did
# what. That is why this course keeps the factors.
#
# ## The statement
#
# Let $f = f_L \circ \dots \circ f_1$ with $f_l : \mathbb{R}^{n_{l-1}} \to \mathbb{R}^{n_l}$, and let $h_0 = x$, $h_l = f_l(h_{l-1})$. **If every $f_l$ is differentiable at
# $h_{l-1}$, then $f$ is differentiable at $x$, and**
#
# $$Df(x) = J_L\,J_{L-1} \cdots J_1, \qquad J_l = Df_l(h_{l-1}).$$

# %% [markdown]
# *Proof.* For two links: $f_1(x+v) = h_1 + J_1v + r_1$ with $|r_1| = o(|v|)$. Put $w = J_1v + r_1$; then $|w| = O(|v|)$, and
# $f_2(h_1 + w) = h_2 + J_2 w + o(|w|) = h_2 + J_2J_1v + J_2r_1 + o(|v|)$, and $|J_2r_1| = o(|v|)$. For $L$ links, repeat. $\square$
#
# The converse is false: see the end of the lesson.

# %% [markdown]
# ## Measure: the same matrix, three ways
#
# The chain multiplies known Jacobians of single links. `torch.func` differentiates the whole network by reverse mode. Central differences only evaluate $f$, so they
# are the independent witness. In double precision the first two should agree to rounding, the third to about $10^{-11}$: rounding over the step.

# %%
net, by_links = models[0], lin.dense()[0]
by_torch = torch.func.jacrev(net)(x[0])
step = 1e-5 * torch.eye(64, device=device)
by_steps = (net(x[0] + step) - net(x[0] - step)).mT / 2e-5
for name, other in (("torch.func", by_torch), ("steps", by_steps)):
    print(f"chain against {name}: {(by_links - other).abs().max():.0e}")

# %% [markdown]
# How small is *small*? The theorem says $f(x+tv) - f(x) = t\,Df(x)\,v + o(t)$. For a smooth network the rest is $\tfrac12 t^2 D^2\!f(v,v) + O(t^3)$, the subject of A5. So if
# $Df\,v \ne 0$ and $D^2\!f(v,v) \ne 0$, the error relative to the true change has exponent 1. Nudge forty images in random directions.

# %%
t = torch.tensor([0.001, 0.003, 0.01, 0.03, 0.1])
v = nn.functional.normalize(torch.randn(40, 64, device=device))
nudges, error = t.to(device)[:, None, None] * v, []
for net in models:
    lin = Chain(net).linearize(x[:40])
    foretold = (lin.dense() @ nudges[..., None])[..., 0]
    truth = net(x[:40] + nudges) - net(x[:40])
    off = (foretold - truth).norm(dim=2) / truth.norm(dim=2)
    error.append(off.log().mean(1).exp().detach().cpu())
error = torch.stack(error)       # networks, sizes

# %% tags=["figure"] mystnb={"image": {"alt": "Relative error of the linear prediction against the size of the nudge on logarithmic axes: five points on a line of slope one."}}
slopes = np.polyfit(t.log(), error.log().mT, deg=1)[0]
claim("A1.c1", slopes, predicted=1.0)
curves.orders(t, {"tanh": error}, {"tanh": 1},
              "The chain's error shrinks with the nudge",
              xlabel="size of the nudge", ylabel="relative error",
              over="networks")

# %% [markdown] tags=["reads"]
# Over six networks the exponent is $1.00016 \pm 0.00039$. (± is four standard errors, in all lessons.)
#
# Two parts of the chain have names. The **prefix** $P_l = J_l \cdots J_1$ carries a nudge of the input to depth $l$. The **suffix**
# $S_l = J_L \cdots J_{l+1}$ carries a nudge of the state $h_l$ to the output. At every depth $Df = S_l P_l$; the gradient that reaches $h_l$ is $S_l^\top \nabla \ell$.

# %% [markdown]
# ## Exercise A1.1 · push a nudge
#
# Write `push(jacobians, v)`: the image of the nudge `v` after all links, from the list $[J_1, \dots, J_L]$, first applied first. A nudge
# is a vector: you need no product of two matrices.

# %% tags=["exercise"]
def push(jacobians, v):
    """The nudge `v` of the input, carried to the output."""
    ...

check("A1.1", push)
# hint("A1.1")        # without the "#": a rung of the ladder
# solution("A1.1")    # after you have tried

# %% [markdown]
# ## What it costs
#
# Carrying one nudge forward is a **jvp**, a Jacobian–vector product. Pulling one logit back is a **vjp**. Neither builds $Df$. Count multiplications, not seconds: with the
# Jacobians of the links known, and from scratch. The unit is a forward pass.

# %%
deep = mlp(depth, 64, "tanh", 1.4, 0.3, n_in=64, n_out=10,
           seed=seed, device=device)
lin = deep.linearize(x[:1])
pixels, logits = (torch.eye(n, device=device) for n in (64, 10))
work = {
    "forward pass": lambda: deep(x[:1]),
    "a jvp": lambda: lin @ pixels[:, :1],
    "a vjp": lambda: lin.mT @ logits[:, :1],
    "a jvp from scratch": lambda: jvp(deep, (x[:1],), (pixels[:1],)),
    "a vjp from scratch": lambda: vjp(deep, x[:1])[1](logits[:1]),
    "Df by rows": lambda: lin.mT @ logits,
    "Df by columns": lambda: lin @ pixels}

# %%
counts = {name: multiplications(run) for name, run in work.items()}
for name, count in counts.items():
    print(f"{name}: {count:,} multiplications, "
          f"{count / counts['forward pass']:g} × forward pass")
claim("A1.c2", counts["Df by columns"] / counts["Df by rows"],
      predicted=64 / 10, interval=0.0)

# %% [markdown] tags=["reads"]
# Given the factors, one nudge costs one pass, whatever it is; from scratch two (vjp) or three (jvp). The matrix costs a pass a column or a pass a row: 64 against
# 10, so rows win by 6.4. Training has a single output, the loss: one row. That is why it goes backward.

# %% [markdown]
# ## Residual links: the identity plus something
#
# A residual link adds its branch to what came in, $h \mapsto h + \alpha\,F_l(h)$. So the chain of a ResNet is a product of perturbed identities, with $B_l = DF_l(h_{l-1})$
#
# $$Df(x) = (I + \alpha B_L) \cdots (I + \alpha B_1).$$

# %% [markdown]
# ## Exercise A1.2 · the Jacobian of a skip
#
# Write `residual_jacobian(branch, alpha)`: the Jacobian of $h + \alpha F(h)$, where the matrix `branch` is the Jacobian of $F$ at $h$. It is one line.

# %% tags=["exercise"]
def residual_jacobian(branch, alpha):
    """Jacobian of h + alpha * F(h); `branch` is that of F."""
    ...

check("A1.2", residual_jacobian)

# %% [markdown]
# ## Explore
#
# Left the last link's Jacobian, then the product of all and its singular values. (1) At 16 links without skip, how many of the 64
# singular values exceed $e^{-5}$ times the largest? (2) And with it? (3) Which activation, without skip, makes some *exactly* zero?
#
# <details><summary>Answers</summary>(1) With tanh 17, else 11 to 23. (2) All. (3) ReLU: slope 0 where a unit is off.</details>

# %% tags=["figure"] mystnb={"image": {"alt": "The Jacobian of the last link and the product of all links as images, and the log singular values of the product, for the chosen depth, nonlinearity and skip."}}
explore("A1", seed=seed)

# %% [markdown]
# ## A ReLU network is a matrix, at each image another one
#
# Without biases, ReLU networks satisfy $f(\lambda x) = \lambda f(x)$ for $\lambda > 0$. Where no pre-activation is 0, differentiate at $\lambda = 1$ (Euler):
# $f(x) = Df(x)\,x$, *exactly*. So such a classifier is, at one image, ten linear templates, and a logit is the template times the image. Does that need ReLU? Train
# tanh networks of the same shape too.

# %%
def bias_free(act):
    """Three affine maps without biases."""
    return nn.Sequential(nn.Linear(64, 64, bias=False), act(),
                         nn.Linear(64, 64, bias=False), act(),
                         nn.Linear(64, 10, bias=False)).to(device)

trained = {name: [bias_free(act) for _ in range(repeats)]
           for name, act in (("relu", nn.ReLU), ("tanh", nn.Tanh))}
for name, group in trained.items():
    right = [fit(net, data, epochs=15, seed=seed + k).accuracy[-1]
             for k, net in enumerate(group)]
    print(f"{name}: right on {torch.stack(right).mean():.1%}")

# %% tags=["figure"] mystnb={"image": {"alt": "A digit, and the templates of its three highest classes as 8 by 8 pictures with the logit of each written below."}}
net = trained["relu"][0]
rows = Chain(net).linearize(x[:1]).dense()[0]
matrices.templates(x[0].reshape(8, 8), rows, rows @ x[0], data.names,
                   "Rows of Df are templates: row · image = logit")

# %%
for name, group in trained.items():
    gaps = []
    for net in group:
        f_x, lin = net(x[:100]), Chain(net).linearize(x[:100])
        gap = (lin @ x[:100, :, None])[..., 0] - f_x
        gaps.append((gap.norm(dim=1) / f_x.norm(dim=1)).mean())
    claim(f"A1.c3 {name}", torch.stack(gaps), predicted=0.0)

# %% [markdown] tags=["reads"]
# The gap, relative to $|f(x)|$, is rounding for ReLU, and $0.9004 \pm 0.0035$ for tanh: there the Jacobian is a slope, not the function. The second claim was expected to fail.

# %% [markdown]
# ## Exercise A1.3 · the matrix of a ReLU network
#
# Write `matrix_at(weights, x)`: the matrix $M$ with $M x = f(x)$ and $M = Df(x)$, for the bias-free ReLU network with these `weights` (ReLU after each but the
# last); no pre-activation is 0. Autograd would do; try without: the image decides which units are on.

# %% tags=["exercise"]
def matrix_at(weights, x):
    """Df(x) of the bias-free ReLU network with these weights."""
    ...

check("A1.3", matrix_at)

# %% [markdown]
# ## LayerNorm loses one direction, and nearly a second
#
# LayerNorm, without gain and bias, subtracts the mean and divides by the standard deviation. With $e = (1, \dots, 1)^\top$, $\Pi = I - \tfrac1d ee^\top$, $s^2 = |\Pi h|^2/d$ and
# $\hat h = \Pi h/|\Pi h|$ ($\Pi h \ne 0$), differentiate $\Pi h/\sqrt{s^2+\varepsilon}$:
#
# $$J = \frac{1}{\sqrt{s^2+\varepsilon}}\Bigl(\Pi - \frac{s^2}{s^2+\varepsilon}\,\hat h\hat h^\top\Bigr).$$
#
# A shift, $e$, is always lost. Beside the common $1/\sqrt{s^2+\varepsilon}$ a stretch, $\hat h$, keeps the factor $\varepsilon/(s^2+\varepsilon)$: zero at
# $\varepsilon = 0$, rank $d - 2$; not quite at the usual $10^{-5}$, rank $d - 1$. Take a hundred images, $d = 64$.

# %% tags=["figure"] mystnb={"image": {"alt": "Log singular values of a LayerNorm link for three values of epsilon: 62 equal ones, then one that falls with epsilon, then one that is exactly zero."}}
logs = {}
for eps, rank, name in ((0.0, 62, "0"), (1e-5, 63, "10^{-5}"),
                        (0.1, 63, "0.1")):
    norm = Chain([nn.LayerNorm(64, eps=eps, device=device)])
    spectrum = log_spectrum(norm.linearize(x[:100]))
    logs[f"$\\varepsilon = {name}$"] = spectrum.values[0]
    claim(f"A1.c4 eps={eps:g}", spectrum.rank, predicted=rank)
    print(f"image 0, 63rd log s: {spectrum.values[0, 62]:.2f}")
lines.spectra(logs, "LayerNorm loses one direction always, one nearly",
              first=56)

# %% [markdown] tags=["reads"]
# Sixty-two values are equal: on what it keeps LayerNorm is a uniform scaling. At the first image, drawn here, the 63rd is $e^{-11.67}$ at $\varepsilon = 10^{-5}$, a
# hundred thousand times smaller, and $e^{-2.59}$ at $\varepsilon = 0.1$. At $\varepsilon = 0$ it is not small but absent, and so is the 64th always. A motion that
# leaves a function unchanged is lost to its Jacobian: a theorem of A3.

# %% [markdown]
# ## Attention has a Jacobian too
#
# Attention without a mask sends tokens $x_j$ to $o_i = \sum_j p_{ij} V x_j$, where row $i$ of $p$ is the softmax of the scores $x_i^\top A x_j$; $V$ and $A$ are
# weights. Take the eight rows of the digit as tokens. Block $(i, j)$ of the Jacobian says how output $i$ feels input $j$.

# %% tags=["figure"] mystnb={"image": {"alt": "An 8 by 8 heat map of block norms of an attention link on the rows of a digit. No block is zero."}}
attend = [transformer(1, 8, 1, mlp=False, skip=False, norm=None,
                      sigma_w=1.5, seed=seed + k, device=device)
          for k in range(repeats)]
tokens = x[:1].reshape(1, 8, 8)
J = attend[0].linearize(tokens).dense()[0].reshape(8, 8, 8, 8)
norms = torch.linalg.matrix_norm(J.transpose(1, 2), 2)
print(f"smallest block {norms.min():.4f}, largest {norms.max():.2f}")
matrices.blocks(norms, "No block is zero: attention mixes all tokens",
                label="largest singular value of block $(i, j)$")

# %% [markdown]
# Every token feels every other, some hardly ($10^{-4}$); in an MLP applied token by token none does. How strongly can a block react? Ask softmax, then the scores that feed it.
#
# ## Exercise A1.4 · the Jacobian of softmax
#
# Write `softmax_jacobian(z)` for one vector of logits `z`: raise one logit, and all probabilities move. It comes back as the Fisher metric of a classifier, in A2 and A6.

# %% tags=["exercise"]
def softmax_jacobian(z):
    """The matrix of partial derivatives of softmax at `z`."""
    ...

check("A1.4", softmax_jacobian)

# %% [markdown]
# **Softmax is tame.** Its Jacobian at probabilities $p$ is $\operatorname{diag}(p) - pp^\top$, and for a unit vector $u$
#
# $$u^\top J u = \operatorname{Var}_p(u) \le \tfrac14(\max u - \min u)^2 \le \tfrac12,$$
#
# by Popoviciu and $(a-b)^2 \le 2a^2 + 2b^2$; $J$ is symmetric and positive semi-definite, so this bounds its norm. Equality: two classes with probability ½ each.

# %% [markdown]
# **The scores are not.** For a token $x_i = 0$ the block with itself is
#
# $$\frac{\partial o_i}{\partial x_i} = V\,\operatorname{Cov}_{p_i}(x)\,A^\top + p_{ii}V.$$
#
# Here $\operatorname{Cov}_{p_i}$ is the tokens' covariance with weights $p_{ij}$. These are all equal, however large the other tokens are, so it grows as the square
# of their scale: unless $V \operatorname{Cov} A^\top = 0$, no constant bounds the block (Kim et al. 2021).

# %%
scales, own = torch.tensor([4.0, 8.0, 16.0, 32.0, 64.0]), []
rows = x[:16].reshape(16, 1, 8, 8) * scales.to(x)[:, None, None]
rows[:, :, 0] = 0         # token 0 is zero, and asks the others
for net in attend:
    J = net.linearize(rows.flatten(0, 1)).dense()[:, :8, :8]
    norms = torch.linalg.matrix_norm(J, 2).reshape(16, 5)
    own.append(norms.log().mean(0).exp().detach().cpu())
own = torch.stack(own)    # networks, scales

# %% tags=["figure"] mystnb={"image": {"alt": "Norm of the own-token block against the scale of the other tokens on logarithmic axes: points on a line of slope two."}}
slopes = np.polyfit(scales.log(), own.log().mT, deg=1)[0]
claim("A1.c5", slopes, predicted=2.0)
curves.orders(scales, {"attention": own}, {"attention": 2},
              "Attention has no Lipschitz constant",
              xlabel="scale of the other tokens (digit = 1)",
              ylabel="norm of the own block", over="networks")

# %% [markdown] tags=["reads"]
# The exponent is $1.99974 \pm 0.00092$ over six networks. LayerNorm with $\varepsilon > 0$ in front of attention is
# one cure, since it fixes the tokens' scale.

# %% [markdown]
# ## Where it fails
#
# The statement asks that every link be differentiable where the state sits. $\operatorname{relu}(h) - \operatorname{relu}(-h) = h$ for every $h$: three links that
# do nothing. Their true Jacobian is the identity, of rank 64. What does the chain say about raw digits, whose background is exactly 0?

# %%
nothing = Chain([lambda h: torch.cat([h, -h], dim=1), nn.ReLU(),
                 lambda h: h[:, :64] - h[:, 64:]])
raw = datasets.digits(scaling="unit", device=device).test.inputs[:100]
print("the chain does nothing:", torch.equal(nothing(raw), raw))
print(f"pixels at exactly 0: {(raw == 0).double().mean():.1%}")
claim("A1.c6", log_spectrum(nothing.linearize(raw)).rank, predicted=64)

# %% [markdown] tags=["reads"]
# Half of the pixels, 49.2 %, sit exactly at the kink. There torch takes the slope of ReLU to be 0, twice, and the product loses the direction: rank $32.5 \pm 1.3$
# (over images) instead of 64. Reverse mode falls into the same hole. *Automatic differentiation is exact*: where the assumption holds. Subtract a number that no
# pixel equals, and the ties are gone.

# %% [markdown]
# ## Your own model
#
# `Chain(model)` takes any `nn.Sequential`. Anything else can be *cut*: name the modules at whose entrance you want a state. What is computed before the first name
# is frozen; a path around a later cut is refused. Put your model here: `inspect` says which links are smooth, random or mix a batch, and what a dense Jacobian
# costs.

# %%
layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu",
                                   batch_first=True)
encoder = nn.TransformerEncoder(layer, 3).to(device).eval()
chain, h = cut(encoder, "layers.*", tokens)
for link in chain.inspect(h):
    print(f"{link.name}: {link.shape_in} to {link.shape_out}, smooth: "
          f"{link.smooth}, dense Jacobian {link.dense_bytes} bytes")

# %% [markdown]
# ## Recap
#
# | you ask | you compute | it costs | goes on in |
# |---|---|---|---|
# | what does this nudge become? | `lin @ v` | one pass, factors given | A2, A3 |
# | which pixels moved this logit? | `lin.mT @ u` | the same | A4 |
# | what is the whole map, here? | `lin.dense()` | a pass a row or a column | A2 |
# | what reaches depth $l$? what leaves it? | `lin[:l]`, `lin[l:]` | nothing new | A4, A5 |
#
# Next, A2 asks what these matrices do to lengths and angles.

# %% [markdown]
# **Quiz.** Answer before you open.
#
# <details><summary>1. A network has 3 inputs and 1,000 outputs. Forward or backward?</summary>Forward: three columns, three passes. Backward would take a thousand.</details>
# <details><summary>2. All links are I + B with small B. Is the product near I?</summary>Only if the B are small together: |B| = 0.1 in a hundred links allow a factor of 1.1 to the power 100, 13,781.</details>

# %% [markdown]
# <details><summary>3. f is locally Lipschitz, and f(x) = Df(x) x at almost every x. Is f linear?</summary>No: f(λx) = λ f(x) for λ > 0, no more: |x|.</details>
# <details><summary>4. LayerNorm sits in every block. Does the residual stream lose directions?</summary>Inside the branch (pre-LN), no: the skip carries them past. After the sum (post-LN), yes, one a token for good, the same number after ten blocks; the nearly lost one shrinks by about another 10⁻⁵ each block.</details>

# %% [markdown]
# **Discuss.** (1) Backward is cheaper for classifiers. When would you push nudges forward? (2) The templates of a ReLU network are exact. Are they an explanation? (3) Where in
# a transformer could a state sit exactly at a kink?
#
# **Read on.** Hauser & Ray 2017 · Golden 2025, equivalent linear maps · Kim, Papamakarios & Mnih 2021 · Noci et al. 2022, signal propagation in transformers.

# %%
progress()
