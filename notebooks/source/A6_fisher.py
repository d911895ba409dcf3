# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A6 · Fisher geometry on parameters
#
# A random network reads twenty inputs. Each dot is a direction among the weights: the higher, the more a step along it changes the
# answers. The bar on the floor counts those that change nothing, to first order.
# **Which steps of the weights does a network feel, and how far may you go along the one it feels most?**

# %% tags=["figure"] mystnb={"image": {"alt": "Eigenvalues of the Fisher matrix by number, on logarithmic axes: one dot at about thirty, on the upper line, the predicted outlier; nineteen that fall from sixteen to five around the lower line, the predicted bulk; a long bar of zeros on the floor."}}
import torch
from torch import nn
from torch.distributions import Categorical, Normal, kl_divergence

from labkit import Chain
from labkit.geometry import curvature, fisher
from labkit.lessons import check, claim, explore, hint, predict
from labkit.lessons import progress, setup, solution
from labkit.networks import mlp
from labkit.plots import curves, eigenvalues
from labkit.theory.wide_fisher import wide_fisher
from labkit.training import datasets
from labkit.training.descent import back_to_minimum
from labkit.training.loop import fit
from labkit.training.parameters import moved
from labkit.training.random_inputs import on_sphere

explore("A6")

# %% [markdown]
# | | |
# |---|---|
# | **You will be able to** | write the Fisher matrix of a model (A6.1) · get its spectrum from the small side (A6.2) · change parameters (A6.3) · take a natural step (A6.4) |
# | **Time** | 60 minutes; profile `full` computes for 10 |
# | **You need** | A2: pullback, the Fisher metric on inputs; eigenvalues |
# | **Sources** | Amari 1998, 2016; Karakida, Akaho & Amari 2019; Kunstner, Hennig & Balles 2019 |

# %% tags=["parameters"]
profile: str = "fast"     # "full": three times the networks, width 1024
nets: int = 6             # networks behind every interval
width: int = 64           # units of a hidden layer of the reader
widest: int = 512         # of the random networks, at least 256
activation: str = "tanh"  # any smooth odd name of labkit.theory
seed: int = 2026          # weights and shuffles
device: str = "cpu"       # "cuda" on a machine with an NVIDIA GPU

# %%
full = setup(profile, seed, device)
torch.set_default_dtype(torch.float64)
repeats, widest = (3 * nets, 1024) if full else (nets, widest)
data = datasets.digits(device=device)
x, y = data.test.inputs[:100], data.test.labels[:100]

# %% [markdown]
# **Predict.** The Fisher matrix $F$ of a network with $P$ weights has $P$ eigenvalues. Make all hidden layers (and the input) of a random network with biases twice as wide:
# four times as many weights, each half as large in variance, equally many inputs. Before you drag the width: by which factor does the *largest* eigenvalue of $F$ change?

# %%
my_guess = None           # a positive number; 1 means unchanged
predict("A6.p1", my_guess)

# %% [markdown]
# ## The idea in one picture
#
# Our object is a reader of digits: 64 grey levels, two hidden layers, ten logits. Train a few. Then move one's weights $\theta$ by a step of length $s$ and ask how far
# its *predictions* went, as a divergence, mean over 100 photographs. Two steps: a random one, and the worst there is.

# %%
def build(seed):
    return mlp(3, width, activation, 1.4, 0.3, 64, 10,
               seed=seed, device=device)

readers = [build(seed + k) for k in range(repeats)]
right = [fit(net, data, epochs=10, lr=1e-3, batch_size=50,
             seed=seed + k).accuracy[-1]
         for k, net in enumerate(readers)]
P = sum(p.numel() for p in readers[0].parameters())
print(f"{P:,} parameters, right on {torch.stack(right).mean():.1%}")

# %%
flat = nn.utils.parameters_to_vector
sizes = 2.0 ** torch.arange(-8, 0, device=device)

def divergence(net, other):
    """KL of the predictions, mean over the photographs."""
    log_p, log_q = (f(x).detach().log_softmax(1) for f in (net, other))
    return (log_p.exp() * (log_p - log_q)).sum(1).mean()

def walk(net, v):
    """Divergences along v; and ½ s² vᵀFv, without any walking."""
    theta, Fv = flat(net.parameters()), fisher.product(
        net, x, "categorical", dict(moved(net, v).named_parameters()))
    far = [divergence(net, moved(net, theta + s * v)) for s in sizes]
    return torch.stack(far), sizes**2 / 2 * (v @ flat(Fv.values()))

# %%
walks = {"worst": [], "random": []}
for net in readers:
    top = fisher.top_eigenvalues(net, x, "categorical", 1)
    v = top.vectors[:, 0].to(device)
    walks["worst"].append(walk(net, v))
    v = nn.functional.normalize(torch.randn_like(v), dim=0)
    walks["random"].append(walk(net, v))
found, near = ({name: torch.stack([pair[k] for pair in pairs])
                for name, pairs in walks.items()} for k in (0, 1))
lines = {name: rows.log().mean(0).exp() for name, rows in near.items()}

# %% tags=["figure"] mystnb={"image": {"alt": "Divergence of the predictions against the length of the step, on logarithmic axes. Both directions follow lines of slope two; the worst direction lies three orders of magnitude above a random one."}}
print(f"worst / random: {lines['worst'][0] / lines['random'][0]:.0f}")
for j, s in ((0, "1/256"), (5, "1/8")):
    off = found["worst"][:, j].log().mean() - lines["worst"][j].log()
    print(f"step {s}: the metric misses {off.abs():.2%}")
curves.laws(sizes, found, lines, log=True,
            title="Predictions feel one step, and hardly the other",
            xlabel="length of the step", ylabel="divergence (nats)",
            lines=r"$s^2 v^T F v\,/\,2$ of the same networks")

# %% [markdown] tags=["reads"]
# A thousand times the divergence. The lines are $\tfrac12 s^2 v^\top F v$, computed without any walking, and in the worst direction right to 4 % even at a step of 1/8. $F$ is
# the Fisher matrix. This lesson is about its shape.

# %% [markdown]
# ## The statement
#
# A model turns parameters into a density of labels, $p_\theta(y \mid x)$, positive and $C^3$ in $\theta$. Its **Fisher matrix** is the second moment of the score, for labels *the model itself* would give:
#
# $$F(\theta) = \mathbb{E}_x\,\mathbb{E}_{y \sim p_\theta}\bigl[\nabla_\theta \log p_\theta(y|x)\; \nabla_\theta \log p_\theta(y|x)^\top\bigr].$$
#
# **Then** (where derivative and sum over $y$ may change places) $\;\mathbb{E}_x\,\mathrm{KL}(p_\theta \,\|\, p_{\theta+v}) = \tfrac12\, v^\top F v + O(|v|^3).$
#
# *Proof.* Fix $x$ and expand KL in $v$. At $v = 0$ it is 0, and least: only the second derivative counts, $-\mathbb{E}\,\nabla^2 \log p$. Differentiate $\sum_y p = 1$ twice: $\mathbb{E}\,\nabla^2 \log p +
# \mathbb{E}\,\nabla \log p\, \nabla \log p^\top = 0$. $\square$

# %% [markdown]
# *Two pullbacks.* If a network $f$ gives the parameters of a family with Fisher matrix $S(f)$, the chain rule leaves
#
# $$F = \mathbb{E}_x\, J_\theta^\top\, S\, J_\theta, \qquad G_x = J_x^\top\, S\, J_x,$$
#
# the second being A2's metric on inputs: one metric on outputs, pulled back twice. For logits $S = \operatorname{diag} p - p\,p^\top$; for normal labels of variance $\sigma^2$, $S = I/\sigma^2$.

# %% [markdown]
# *What it needs.* $F \ge 0$ always; it is a metric only where it has full rank. Labels come from the model: those of a data set give the **empirical Fisher matrix**, another thing. $F$ needs one derivative, the
# expansion more: on a kink of ReLU it can fail.
#
# ## Measure: three closed forms
#
# Logistic regression, softmax regression, least squares: each has $F$ in one line. Does the machine agree?

# %%
X, W = x[:, 20:26], torch.randn(4, 6, device=device)
p, q = (X @ W.mT).softmax(1), (X @ W[0]).sigmoid()
S = torch.diag_embed(p) - p[:, :, None] * p[:, None]
forms = {"bernoulli": (q * (1 - q) * X.mT) @ X, "gaussian": X.mT @ X,
         "categorical": torch.einsum("bij,bk,bl->ikjl", S, X, X)
         .reshape(24, 24)}
for name, by_hand in forms.items():
    model = nn.Linear(6, len(by_hand) // 6, bias=False, device=device)
    model.weight.data.copy_(W[:model.out_features])
    F, by_hand = fisher.matrix(model, X, name), by_hand / len(X)
    off = (F - by_hand).abs().max() / by_hand.abs().max()
    print(f"{name}: relative difference {off:.0e}")

# %% [markdown]
# ## Two old friends are curved
#
# The normal densities $N(\mu, \sigma)$ have $F = \operatorname{diag}(1, 2)/\sigma^2$: a step of $\mu$ counts less where $\sigma$ is large. Laid out in space, from $\sigma = 1/\sqrt2$ on, they are a trumpet of radius $1/\sigma$. Probabilities of three labels
# lie on a sphere: $F$ is the metric of $2\sqrt p$, since $|d(2\sqrt p)|^2 = \sum dp^2/p$. Are these surfaces' metrics the second derivatives of KL? And their curvature (A5)?


# %%
def trumpet(at):
    (mu, s), r = at.T, (2 * at[:, 1]**2 - 1).sqrt()
    z = 2**0.5 * r.asinh() - r / s
    return torch.stack([mu.cos() / s, mu.sin() / s, z], 1)

def logits(z):
    return nn.functional.pad(z, (0, 1))      # the third is 0

families = {
    "N(μ, σ)": (trumpet, lambda z: Normal(z[0], z[1])),
    "three labels": (lambda z: 2 * logits(z).softmax(1).sqrt(),
                     lambda z: Categorical(logits=logits(z)))}

# %%
at, back = torch.tensor([0.3, 1.2], device=device), torch.func.jacrev
for name, (surface, family) in families.items():
    F = back(back(lambda z: kl_divergence(family(at), family(z))))(at)
    jet = Chain([surface]).jet(at[None])
    off = (jet.first[0].mT @ jet.first[0] - F).abs().max()
    K = curvature.scalar_curvature(jet).item() / 2
    print(f"{name}: metric off by {off:.0e}, curvature {K:.3f}")

# %% [markdown] tags=["reads"]
# Normal densities are a hyperbolic plane of curvature $-0.500$; books that say $-1$ have rescaled the metric. Probabilities lie on a sphere of radius 2, curvature 0.250. No choice of
# parameters changes either.
#
# ## Exercise A6.1 · logistic regression
#
# Write `fisher_logistic(X, w)` for $p(1|x) = 1/(1 + e^{-w \cdot x})$, mean over the rows of `X`. Start from the definition: the score of a label $y \in \{0, 1\}$ is $(y - p)\,x$.

# %% tags=["exercise"]
def fisher_logistic(X, w):
    """The Fisher matrix (P, P); X is (B, P), w is (P,)."""
    ...

check("A6.1", fisher_logistic)
# hint("A6.1")      # without the "#": a rung of the ladder
# solution("A6.1")  # after you have tried

# %% [markdown]
# ## A step of the weights is a step of the photograph
#
# The first layer reads $h = Wx + b$. Change the photograph by $v$, or the weights by $dW = (Wv)\,x^\top/|x|^2$: $h$ moves alike, and nothing behind it can tell. So the metric on weights, *at this one photograph*, and
# the metric on inputs must give one number.

# %%
net, photo = readers[0], x[:1]
v = torch.randn(64, device=device)
lin, probs = net.linearize(photo), net(photo).softmax(1)
on_input = v @ fisher.on_inputs(lin, probs)[0] @ v
step = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
first = next(name for name, p in step.items() if p.ndim == 2)
W = dict(net.named_parameters())[first]
step[first] = (W @ v).outer(photo[0]) / photo.square().sum()
F_step = fisher.product(net, photo, "categorical", step)
on_weights = (F_step[first] * step[first]).sum()
print(f"input {on_input:.4f}, weights {on_weights:.4f}, "
      f"apart {(on_input - on_weights).abs():.0e}")

# %% [markdown] tags=["reads"]
# 0.0380 both times. A2's ellipses and this lesson's matrix are shadows of one metric, which lives on the output. One $dW$ can follow $B$ different steps only while the $B$ photographs are linearly independent; $F$ averages them.

# %% [markdown]
# ## The spectrum, from the small side
#
# Take a root, $S = T T^\top$, and stack $T^\top J_\theta/\sqrt{B}$ of all $B$ photographs: $F = R^\top R$ with $n = B C$ rows. If $R^\top R\,v = \lambda v$, $\lambda \neq 0$, then $R R^\top (Rv) = \lambda\,(Rv)$: the small matrix has
# the same nonzero spectrum. The others, $P - n$ or more, are zero.
#
# ## Exercise A6.2 · dual spectrum
#
# Write `dual_spectrum(R)`: the $n$ largest eigenvalues of $R^\top R$, descending, without a $P \times P$ matrix.

# %% tags=["exercise"]
def dual_spectrum(R):
    """The n largest eigenvalues of RᵀR; R is (n, P), n <= P."""
    ...

check("A6.2", dual_spectrum)   # stuck? hint("A6.2")

# %% tags=["figure"] mystnb={"image": {"alt": "Eigenvalues by number on logarithmic axes. The Fisher matrix has 900, falling over seven powers of ten; the empirical one has only 100 and falls sooner; a bar on the floor counts the zeros."}}
spectra = [fisher.spectrum(net, x, "categorical") for net in readers]
own = [fisher.empirical_spectrum(net, x, "categorical", y)
       for net in readers]
ratio = torch.stack([e.sum() / s.sum() for e, s in zip(own, spectra)])
claim("A6.c1", ratio, predicted=1)
share = spectra[0].cumsum(0) / spectra[0].sum()
half, most = ((share < part).sum() + 1 for part in (0.5, 0.99))
print(f"rank {len(share)}, half the trace in {half}, 99 % in {most}")
eigenvalues.numbered(
    {"Fisher": spectra[0], "with the data's labels": own[0]}, P,
    f"Reader 0: {half} directions hold half of the trace",
    limits=(1e-9, 30))

# %% [markdown] tags=["reads"]
# A hundred photographs with ten logits make 1,000 rows, but softmax ignores a common shift: rank 900. Half the trace sits in 10 eigenvalues, 99 % in 267; most of all 8,970 are zero.
#
# "The empirical Fisher is the Fisher": fails. Its trace is $0.35 \pm 0.10$ of the true one. A photograph read right with doubt $\varepsilon$ gives it order $\varepsilon^2$, the true one order $\varepsilon$.


# %% [markdown]
# ## Great width
#
# Karakida, Akaho & Amari (2019) found the statistics of $F$ for random weights: width $M$ everywhere, $H$ hidden layers, $C$ outputs, normal labels of variance 1, $N$ unrelated inputs of one length. To leading order in $M$
#
# $$\text{mean} = \kappa_1 \frac{C}{M}, \qquad \lambda_{\max} = H M \Bigl(\frac{N-1}{N}\,\kappa_2 + \frac{\kappa_1}{N}\Bigr).$$
#
# $\kappa_1$ comes from the squared length of signals and gradients of one input, $\kappa_2$ from the overlaps of two, multiplied layer by layer: as in A4.

# %% [markdown]
# *Why.* For one output the entries of $N R R^\top$ are about $H M \kappa_2$, on the diagonal $H M \kappa_1$: a constant matrix plus a diagonal. Its large eigenvector is $(1, \dots, 1)$, *all answers rise together*. The other nonzero eigenvalues, the **bulk**, have the mean $H M (\kappa_1 - \kappa_2)/N$. Several outputs do not mix: each has its own.

# %%
widths = [64 * 2**k for k in range(8) if 64 * 2**k <= widest]
H, N, stats = 2, 40, {}
for sigma_b in (0.5, 0.0):
    rows = [[fisher.spectrum(
        mlp(H + 1, M, activation, 1.5, sigma_b, M, 1, seed=seed + k,
            device=device), on_sphere(N, M, seed + k).to(device),
        "gaussian") for M in widths] for k in range(repeats)]
    stats[sigma_b] = rows

# %%
law = {b: wide_fisher(activation, 1.5, b, hidden=H) for b in stats}
top = {b: torch.stack([law[b].largest(M, N) for M in widths])
       for b in law}
largest = {b: torch.tensor([[s[0] for s in row] for row in rows])
           for b, rows in stats.items()}
above = (largest[0.0] / top[0.0].cpu()).mean(0)
for b in law:
    print(f"σ_b = {b}: κ₂ = {law[b].kappa_2:.4f}")
for M, ratio in zip(widths, above):
    print(f"no biases, M = {M}: {ratio:.2f} of the formula, "
          f"too much by {(ratio - 1) / (N / M)**0.5:.1f} √(N/M)")

# %%
bias = law[0.5]
total = [H * M**2 + H * M + M + 1 for M in widths]
mean = torch.tensor([[s.sum() / p for s, p in zip(row, total)]
                     for row in stats[0.5]])
rest = torch.tensor([[s[1:].mean() for s in row]
                     for row in stats[0.5]])
size = torch.tensor(widths, device=bias.kappa_1.device)
bulk = H * size * (bias.kappa_1 - bias.kappa_2) / N
many = torch.stack([fisher.trace(
    mlp(H + 1, widest, activation, 1.5, 0.5, widest, 1, seed=seed + k,
        device=device), on_sphere(4, widest, seed + k).to(device),
    "gaussian") for k in range(10 * nets)]) / total[-1]

# %% tags=["figure"] mystnb={"image": {"alt": "Against width, on logarithmic axes: the largest eigenvalue and the bulk grow in proportion, the mean of all falls in inverse proportion, all on their lines at great width. Without biases the largest lies above its line, less at great width."}}
claim("A6.c2", many / bias.mean(widest), predicted=1)
growth = (largest[0.5][:, -1] / largest[0.5][:, 1]) ** (
    1 / (len(widths) - 2))
claim("A6.c3", growth, predicted=2)
claim("A6.c4", largest[0.5][:, -1] / top[0.5][-1], predicted=1)
claim("A6.c5", largest[0.0][:, -1] / top[0.0][-1], predicted=1)
curves.laws(widths, {
    "largest": largest[0.5], "mean of all": mean,
    "largest, no biases": largest[0.0], "bulk": rest}, {
    "largest": top[0.5], "mean of all": bias.mean(size),
    "largest, no biases": top[0.0], "bulk": bulk},
    "Wider: the nonzero eigenvalues grow, the zeros multiply",
    xlabel="width $M$", ylabel="eigenvalue", log=True)

# %% [markdown] tags=["reads"]
# One readout moves the trace by some per cent, so 60 networks judge the mean: $1.007 \pm 0.028$ of the prediction. The largest doubles with the width ($1.91 \pm 0.17$) and is $1.040 \pm 0.093$ times its formula. Without biases it is $1.572 \pm 0.082$ times: this claim was to fail. For odd $\varphi$
# then $\kappa_2 = 0$, and the formula is but the mean of the bulk. The largest of a crowd lies above, by a share of order $\sqrt{N/M}$.


# %% [markdown]
# ## Explore: what makes the outlier
#
# In the picture at the top: (1) $\sigma_b = 0.5$, 20 samples, then 60: where does the first dot go, where the others? (2) The same at $\sigma_b = 0$. (3) At width 32, which line do you trust?
#
# <details><summary>Answers</summary>(1) It nearly stays, 30 to 22.5; the bulk falls to a third. (2) All fall: it is the edge of a crowd. (3) Rather the bulk's: 2.59 for 2.34; the largest is 14.24 for 6.60.</details>


# %% [markdown]
# ## How long may a step be?
#
# Gradient descent on the mean of $\tfrac12|f - \text{target}|^2$, near a minimum with $f = \text{target}$: there the Hessian *is* $F$, since $f - \text{target}$, which multiplies $D^2\!f$, is 0. Along an eigenvector each step multiplies the distance by $1 - \eta\lambda$. So the way back is safe
# for $\eta < 2/\lambda_{\max}$ (along the zeros nothing moves); above it you are thrown out.

# %%
beside = [(mlp(H + 1, 128, activation, 1.5, 0.0, 128, 1, seed=seed + k,
               device=device), on_sphere(N, 128, seed + k).to(device))
          for k in range(repeats)]
tops = [fisher.spectrum(*one, "gaussian")[0] for one in beside]
formula = law[0.0].largest(128, N)
back = {name: torch.stack([back_to_minimum(*one, lr(t), seed=k)
        for k, (one, t) in enumerate(zip(beside, tops))])
        for name, lr in (("0.9 of 2/λ", lambda t: 1.8 / t),
                         ("1.1 of 2/λ", lambda t: 2.2 / t),
                         ("η from the formula",
                          lambda t: 1.8 / formula))}

# %% tags=["figure"] mystnb={"image": {"alt": "Loss against the step: with a little less than two over lambda it falls, with a little more it falls for a few steps and then rises, and with a step from the formula that ignores the spread it explodes, until the units saturate."}}
factor = (back["1.1 of 2/λ"][:, -1] / back["1.1 of 2/λ"][:, -6]) ** 0.1
claim("A6.c6", factor, predicted=abs(1 - 2.2))
first = {name: losses[0, :16] for name, losses in back.items()}
for name, losses in back.items():
    decades = (losses[:, 15] / losses[:, 0]).log10().mean()
    print(f"{name}: {decades:+.1f} decades in 15 steps")
eigenvalues.descent(
    first, "One network: above 2/λ it leaves its minimum")

# %% [markdown] tags=["reads"]
# Slightly below, the loss falls; slightly above it soon grows, the distance by $1.186 \pm 0.057$ a step. That is $|1 - 1.1 \cdot 2| = 1.2$ only within the interval: in a crowd the next directions linger. The third $\eta$, from the formula where $\kappa_2 = 0$, explodes.
#
# ## Other parameters, same functions
#
# Write weights as $\theta = \sinh \varphi$. Scores follow the chain rule, $\nabla_\varphi \log p = A^\top \nabla_\theta \log p$ with $A = \partial\theta/\partial\varphi$.
#
# ## Exercise A6.3 · change of parameters
#
# Write `pulled_back(F, A)`: the Fisher matrix in $\varphi$. A metric is no linear map.

# %% tags=["exercise"]
def pulled_back(F, A):
    """The Fisher matrix in φ; A is the Jacobian of θ(φ)."""
    ...

check("A6.3", pulled_back)     # stuck? hint("A6.3")

# %% [markdown]
# ## The natural gradient
#
# Which small step of given *divergence* $\tfrac12 v^\top F v$ lowers the loss most? By Lagrange $v \propto -F^{-1} g$, $g = \nabla L$: the **natural gradient** (Amari 1998). In $\varphi$:
# $(A^\top F A)^{-1} A^\top g = A^{-1} F^{-1} g$, the same step. The plain one becomes $A A^\top g$. $F$ and $A$ must be regular.
#
# ## Exercise A6.4 · a natural step
#
# Write `natural_step(F, g, eta, damping)`: what you *add* to the parameters. A nearly singular $F$ becomes $F + \delta I$, with *damping* $\delta$.

# %% tags=["exercise"]
def natural_step(F, g, eta, damping):
    """What is added to the parameters, (P,)."""
    ...

check("A6.4", natural_step)    # stuck? hint("A6.4")

# %% [markdown]
# ## Measure: one step, twice
#
# A pocket reader: eight principal coordinates of a digit, eight hidden units, least squares on the ten labels; its $F$ is regular. Take one step in $\theta$, one in $\varphi$, and compare the two *functions* on all digits:
# their distance, over how far the step moved the function.

# %%
spread = torch.linalg.eigh(torch.cov(data.train.inputs.mT))
eight = data.train.inputs @ spread.eigenvectors[:, -8:]
eight = eight / eight.std(0)
wanted = nn.functional.one_hot(data.train.labels, 10).to(eight)
pockets = [mlp(2, 8, activation, 1.4, 0.3, 8, 10, seed=seed + k,
               device=device) for k in range(repeats)]
F = fisher.matrix(pockets[0], eight, "gaussian").detach()
values = torch.linalg.eigvalsh(F)
print(f"{len(F)} parameters, eigenvalues {values[0]:.4f} … "
      f"{values[-1]:.2f}")

# %%
def disagreement(net, step, etas):
    """Steps in θ and in φ = arsinh θ: apart, over their length."""
    theta = flat(net.parameters()).detach()
    A, phi = theta.asinh().cosh().diag(), theta.asinh()
    loss = (net(eight) - wanted).square().sum(1).mean() / 2
    g = flat(torch.autograd.grad(loss, [*net.parameters()]))
    F = fisher.matrix(net, eight, "gaussian").detach()
    v, w = step(F, g), step(A.T @ F @ A, A.T @ g)
    a, b, old = (torch.stack([moved(net, to)(eight) for to in list])
                 for list in ([theta - s * v for s in etas],
        [(phi - s * w).sinh() for s in etas], [theta]))
    apart, far = (d.flatten(1).norm(dim=1) for d in (a - b, a - old))
    return (apart / far).detach()

# %%
etas = 2.0 ** torch.arange(-8.0, 1, device=device)
eye = torch.eye(len(F), device=device)
ways = {"plain": lambda F, g: g,
        "natural, damping 0.1":
            lambda F, g: torch.linalg.solve(F + 0.1 * eye, g),
        "natural": lambda F, g: torch.linalg.solve(F, g)}
differ = {name: torch.stack([disagreement(net, way, etas)
                             for net in pockets])
          for name, way in ways.items()}
for name, rows in differ.items():
    print(f"{name}: {rows[:, -1].mean():.3f} at η = 1, "
          f"{rows[:, 0].mean():.5f} at η = 1/256")

# %% tags=["figure"] mystnb={"image": {"alt": "Disagreement of two steps against their size, logarithmic axes. The natural gradient's falls in proportion to the step; the damped and the plain gradient's stay level, and at steps above a quarter the damped one's is the smallest."}}
natural, damped = differ["natural"], differ["natural, damping 0.1"]
claim("A6.c7", natural[:, 1] / natural[:, 0], predicted=2)
claim("A6.c8", damped[:, 0], predicted=0)
start = {name: rows[:, 0].log().mean().exp() * torch.ones_like(etas)
         for name, rows in differ.items()}
start["natural"] = start["natural"] * etas / etas[0]
curves.laws(
    etas, differ, start,
    "Small natural steps forget their coordinates, unless damped",
    xlabel="step η", ylabel="relative disagreement", log=True,
    lines="level or of slope 1, through the smallest step")

# %% [markdown] tags=["reads"]
# Plain: at $\eta = 1/256$ the two functions still differ by 0.28600 of the step, however small the step: they go different ways. Natural: 0.00071, and twice the step gives $1.99728 \pm 0.00023$ times as much, towards 2 as $\eta \to 0$. Damped: it stays near $0.0437 \pm 0.0095$.

# %% [markdown]
# ## Where it fails
#
# *Finite steps.* The invariance is of first order only. At $\eta = 1$ the natural steps disagree by 0.124, the damped by 0.066 only; affine $\theta(\varphi)$ would keep them. *Damping.* $\delta I$ measures in the coordinates at hand, so it brings them back; the last claim fails. *A singular* $F$ has no inverse: a reader's softmax
# alone forbids it.

# %%
net, ask = readers[0], (x, "categorical")
loss = nn.functional.cross_entropy(net(x), y)
names = [name for name, _ in net.named_parameters()]
g = dict(zip(names, torch.autograd.grad(loss, [*net.parameters()])))
try:
    fisher.natural_gradient(net, *ask, g)
except ValueError as refusal:
    print(str(refusal)[:64], "…")
exact, near = (flat(fisher.natural_gradient(
    net, *ask, g, damping=1e-2, tolerance=few, progress=False).values())
    for few in (None, 1e-8))
off = (near - exact).norm() / exact.norm()
print(f"length {exact.norm():.2f}; by products alone: apart {off:.0e}")

# %% [markdown]
# Two ways: solve on the rows $R$, or conjugate gradients on $Fv$, where the rows do not fit; they agree. A residual of `tolerance` times $|g|$, over the damping, bounds the error.
#
# ## Your own model
#
# Any `nn.Module` will do, photographs too. Here is a small convolutional network that nobody trained. Which share of its trace do the ten largest hold?

# %%
model = nn.Sequential(
    nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.GELU(),
    nn.Conv2d(8, 16, 3), nn.GELU(), nn.Flatten(), nn.Linear(256, 10))
values = fisher.spectrum(model.to(device), x, "categorical")
count = sum(p.numel() for p in model.parameters())
ten = values[:10].sum() / values.sum()
print(f"{count:,} parameters, rank {len(values)}, largest "
      f"{values[0]:.2f}, ten hold {ten:.0%}")

# %% [markdown]
# ## Recap
#
# | statistics says | geometry says | you compute |
# |---|---|---|
# | variance of the score | the output's metric, pulled back to $\theta$ | `fisher.matrix` |
# | sensitivity to the input | the same, pulled back to $x$ | `fisher.on_inputs` |
# | parameters that are not identified | kernel of $F$ | `fisher.spectrum` |
# | steepest descent in divergence | a gradient, its index raised | `fisher.natural_gradient` |
# | second moment of *this* data's gradients | no metric of the model | `fisher.empirical_matrix` |

# %% [markdown]
# **Quiz.** Answer before you open.
#
# <details><summary>1. You show every photograph twice. What happens to F? To its rank?</summary>Nothing: F is a mean. The rank stays, though there are twice as many rows.</details>
# <details><summary>2. All weights are written in milliunits, φ = 1000 θ. What happens to the eigenvalues of F? To a divergence?</summary>They fall by a million; the divergence of the same change of functions stays. Eigenvalues of F belong to coordinates.</details>

# %% [markdown]
# <details><summary>3. Is the spectrum of F invariant under θ = ψ(φ)?</summary>Not in general; an orthogonal A keeps them. Rank and lengths are invariant; where F is regular, volumes and curvature too.</details>
# <details><summary>4. A network fits all labels perfectly and surely. What are the two matrices?</summary>Both go to 0: with no doubt left the model's labels are the data's. On the way they differ.</details>

# %% [markdown]
# **Discuss.** (1) "Flat minima generalise": flat in which coordinates? (2) Adam divides by a root of squared gradients. Which matrix is that, and which parts of this lesson does it keep? (3) What would you damp with instead of $I$?
#
# **Read on.** Amari 1998, Natural gradient works efficiently in learning · Amari 2016, ch. 1–3, 12 · Karakida, Akaho & Amari 2019 · Kunstner, Hennig & Balles 2019 · Martens 2020, New insights on the natural gradient.

# %%
progress()
