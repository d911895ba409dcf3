# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A6 · Fisher geometry on parameters
#
# A random network with thousands of weights reads twenty inputs. Each dot is a direction among the weights: the higher, the more a step along it changes the
# answers. The bar on the floor counts those that change nothing: on these twenty inputs, to first order.
# **Which steps of the weights does a network feel, and how far may you go along the one it feels most?**

# %% tags=["figure"] mystnb={"image": {"alt": "Eigenvalues of the Fisher matrix by number, on logarithmic axes: one dot at about thirty, nineteen that fall from sixteen to five, a long bar of zeros on the floor, and two lines at the predicted largest and the predicted mean."}}
import copy

import torch
from torch import nn

from labkit.geometry import fisher
from labkit.lessons import check, claim, explore, hint, predict
from labkit.lessons import progress, setup, solution
from labkit.networks import mlp
from labkit.plots import curves, eigenvalues
from labkit.theory.wide_fisher import wide_fisher
from labkit.training import datasets
from labkit.training.descent import back_to_minimum
from labkit.training.loop import fit
from labkit.training.random_inputs import on_sphere

explore("A6")

# %% [markdown]
# | | |
# |---|---|
# | **You will be able to** | write the Fisher matrix of a model (A6.1) · get its spectrum from the small side (A6.2) · change parameters (A6.3) · take a natural step (A6.4) · say what damping costs |
# | **Time** | 60 minutes |
# | **You need** | A2: pullback and the Fisher metric on inputs; eigenvalues. A4 and A5 are quoted, not needed |
# | **Sources** | Amari 1998, 2016; Karakida, Akaho & Amari 2019; Kunstner, Hennig & Balles 2019 |

# %% tags=["parameters"]
profile: str = "fast"     # "full": three times the networks, width 1024
nets: int = 6             # networks behind every interval
width: int = 64           # units of a hidden layer of the reader
widest: int = 512         # of the random networks, at least 256
activation: str = "tanh"  # any smooth odd name of labkit.theory
seed: int = 0             # weights and shuffles
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
def at(net, theta):
    """A copy of the network with other parameters."""
    other = copy.deepcopy(net)
    nn.utils.vector_to_parameters(theta, other.parameters())
    return other

def divergence(net, other):
    """KL of the predictions, mean over the photographs."""
    log_p, log_q = (f(x).detach().log_softmax(1) for f in (net, other))
    return (log_p.exp() * (log_p - log_q)).sum(1).mean()

# %%
sizes, far, near = 2.0 ** torch.arange(-8, 0, device=device), {}, {}
for name in ("worst", "random"):
    for k, net in enumerate(readers):
        top = fisher.top_eigenvalues(net, x, "categorical", 1)
        v = top.vectors[:, 0].to(device)
        if name == "random":
            v = nn.functional.normalize(torch.randn_like(v), dim=0)
        theta, step = flat(net.parameters()).detach(), at(net, v)
        far[name, k] = torch.stack([
            divergence(net, at(net, theta + s * v)) for s in sizes])
        F_v = fisher.product(net, x, "categorical",
                             dict(step.named_parameters()))
        near[name, k] = sizes**2 / 2 * (v @ flat(F_v.values()))

# %% tags=["figure"] mystnb={"image": {"alt": "Divergence of the predictions against the length of the step, on logarithmic axes. Both directions follow lines of slope two; the worst direction lies three orders of magnitude above a random one."}}
both = [{name: torch.stack([rows[name, k] for k in range(repeats)])
         for name in ("worst", "random")} for rows in (far, near)]
found, lines = both[0], {n: r.log().mean(0).exp()
                         for n, r in both[1].items()}
print(f"worst / random: {lines['worst'][0] / lines['random'][0]:.0f}")
for j, s in ((0, "1/256"), (5, "1/8")):
    off = found["worst"][:, j].log().mean() - lines["worst"][j].log()
    print(f"step {s}: the metric misses {off.abs():.1%}")
curves.laws(sizes, found, lines, log=True,
            title="Predictions feel one step, and hardly the other",
            xlabel="length of the step", ylabel="divergence (nats)",
            lines=r"$s^2 v^T F v\,/\,2$ of the same networks")

# %% [markdown] tags=["reads"]
# A thousand times the divergence. The lines are $\tfrac12 s^2 v^\top F v$, computed without any walking, and in the worst direction right to 0.1 % at a step of 1/256. $F$ is
# the Fisher matrix. This lesson is about its shape.

# %% [markdown]
# ## The statement
#
# A model turns parameters into a density of labels, $p_\theta(y \mid x)$, positive and $C^3$ in $\theta$. Its **Fisher matrix** is the second moment of the score, for labels *the model itself* would give:
#
# $$F(\theta) = \mathbb{E}_x\,\mathbb{E}_{y \sim p_\theta}\bigl[\nabla_\theta \log p_\theta(y|x)\; \nabla_\theta \log p_\theta(y|x)^\top\bigr].$$
#
# **Then** (where derivative and sum over $y$ may change places) $\;\mathbb{E}_x\,\mathrm{KL}(p_\theta \,\|\, p_{\theta+v}) = \tfrac12\, v^\top F v + O(|v|^3).$

# %% [markdown]
# *Proof.* Fix $x$ and expand KL in $v$. At $v = 0$ it is 0, and least. So only the second derivative counts, $-\mathbb{E}\,\nabla^2 \log p$. Differentiate $\sum_y p = 1$ twice: $\mathbb{E}\,\nabla^2 \log p +
# \mathbb{E}\,\nabla \log p\, \nabla \log p^\top = 0$. $\square$
#
# If a network $f$ gives the parameters of a family with Fisher matrix $S(f)$, the chain rule leaves
#
# $$F = \mathbb{E}_x\, J_\theta^\top\, S\, J_\theta, \qquad G_x = J_x^\top\, S\, J_x,$$
#
# the second being A2's metric on inputs. One metric on outputs, two pullbacks. For logits $S = \operatorname{diag} p - p\,p^\top$; for normal labels of variance $\sigma^2$, $S = I/\sigma^2$.

# %% [markdown]
# *What it needs.* $F \ge 0$ always; it is a metric only where it has full rank. Labels come from the model: with the labels of a data set you get the **empirical Fisher matrix**, another thing. And ReLU? $F$ needs one derivative, the
# expansion more: on a kink of a unit it can fail.
#
# ## Measure: three closed forms
#
# Logistic regression, softmax regression, least squares: each has $F$ in one line. Does the machine for any network agree?

# %%
X, W = x[:, 20:26], torch.randn(4, 6, device=device)
p = (X @ W.mT).softmax(1)
S = torch.diag_embed(p) - p[:, :, None] * p[:, None]
q, C = (X @ W[0]).sigmoid(), X.mT @ X / len(X)
forms = {"bernoulli": (1, (q * (1 - q) * X.mT) @ X / len(X)),
         "categorical": (4, torch.einsum("bij,bk,bl->ikjl", S, X, X)
                         .reshape(24, 24) / len(X)),
         "gaussian": (1, C / 0.5**2)}

# %%
for name, (outputs, by_hand) in forms.items():
    model = nn.Linear(6, outputs, bias=False, device=device)
    model.weight.data.copy_(W[:outputs])
    F = fisher.matrix(model, X, name, variance=0.25
                      if name == "gaussian" else 1.0)
    error = (F - by_hand).abs().max() / by_hand.abs().max()
    print(f"{name}: relative difference {error:.0e}")

# %% [markdown]
# ## Two old friends are curved
#
# The normal densities $N(\mu, \sigma)$ form a half-plane. Their $F$ is $\operatorname{diag}(1/\sigma^2,\, 2/\sigma^2)$: a step of $\mu$ counts less where $\sigma$ is large. For $ds^2 = E\,d\mu^2 + G\,d\sigma^2$ with $E, G$ functions of $\sigma$, Gauss' curvature (A5) is
# $-\tfrac{1}{2\sqrt{EG}}\,\bigl(E' / \sqrt{EG}\bigr)'$. And probabilities $p$: on the simplex of three labels or more, $F$ is Euclid's metric of $2\sqrt p$, since $|d(2\sqrt p)|^2 = \sum dp^2/p$.

# %%
def KL(to, mu=0.3, sigma=0.7):
    m, s = to
    return (s / sigma).log() + (sigma**2 + (mu - m)**2) / (2 * s**2)

grad, back = torch.func.grad, torch.func.jacrev
F, s = back(back(KL))(torch.tensor([0.3, 0.7])), torch.tensor(0.7)
error = (F * s**2 - torch.tensor([1.0, 2.0]).diag()).abs().max()
def root(s):                                         # √(EG)
    return (s**-2 * 2 * s**-2).sqrt()

def slope(s):
    return grad(lambda s: s**-2)(s) / root(s)

K, p = -grad(slope)(s) / (2 * root(s)), torch.rand(5, 10).softmax(1)
print(f"N(μ, σ): off diag(1, 2)/σ² by {error:.0e}, curvature {K:.3f}; "
      f"radius of 2√p: {(2 * p.sqrt()).norm(dim=1).mean():.3f}")

# %% [markdown] tags=["reads"]
# Normal densities are a hyperbolic plane of curvature $-0.500$; books that say $-1$ have rescaled the metric. Probabilities lie on a sphere of radius 2.000, of curvature $+\tfrac14$. No choice of
# parameters changes either curvature.
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
# 0.1605 both times. A2's ellipses and this lesson's matrix are shadows of one metric, which lives on the output. One $dW$ can follow $B$ different steps only while the $B$ photographs are linearly independent; $F$ averages them.

# %% [markdown]
# ## The spectrum, from the small side
#
# Take a root, $S = T T^\top$, and stack $T^\top J_\theta/\sqrt{B}$ of all $B$ photographs: $F = R^\top R$ with $n = B C$ rows of length $P$. If $R^\top R\,v = \lambda v$ with $\lambda \neq 0$, then $R R^\top (Rv) = \lambda\,(Rv)$: the small matrix $R R^\top$ has
# the same nonzero spectrum. The rest, at least $P - n$ eigenvalues, is zero.
#
# ## Exercise A6.2 · dual spectrum
#
# Write `dual_spectrum(R)`: the $n$ largest eigenvalues of $R^\top R$, descending, without a $P \times P$ matrix.

# %% tags=["exercise"]
def dual_spectrum(R):
    """The n largest eigenvalues of RᵀR; R is (n, P), n <= P."""
    ...

check("A6.2", dual_spectrum)   # stuck? hint("A6.2")

# %%
spectra = [fisher.spectrum(net, x, "categorical") for net in readers]
own = [fisher.empirical_spectrum(net, x, "categorical", y)
       for net in readers]
share = spectra[0].cumsum(0) / spectra[0].sum()
half, most = ((share < part).sum() + 1 for part in (0.5, 0.99))
print(f"rank {len(share)}, largest {spectra[0][0]:.2f}; half the trace "
      f"in {half}, 99 % in {most} of {P:,} eigenvalues")
ratio = torch.stack([e.sum() / s.sum() for e, s in zip(own, spectra)])
claim("A6.c1", ratio, predicted=1)

# %% tags=["figure"] mystnb={"image": {"alt": "Eigenvalues by number on logarithmic axes. The Fisher matrix has 900, falling over seven powers of ten; the empirical one has only 100 and falls sooner; a bar on the floor counts the zeros."}}
eigenvalues.numbered(
    {"Fisher": spectra[0], "with the data's labels": own[0]}, P,
    "Nine directions hold half of the trace (reader 0)",
    limits=(1e-9, 30))

# %% [markdown] tags=["reads"]
# A hundred photographs with ten logits make 1,000 rows, but softmax ignores a common shift: rank 900. In reader 0 half the trace sits in 9 eigenvalues of 8,970, 99 % in 268. *Few huge, many tiny*, most exactly
# zero. Grey: with the data's own labels.
#
# "The empirical Fisher is the Fisher": fails. Its trace is $0.372 \pm 0.076$ of the true one. Right with doubt $\varepsilon$, a photograph gives the empirical matrix order $\varepsilon^2$, the true one order $\varepsilon$.

# %% [markdown]
# ## Great width
#
# Karakida, Akaho & Amari (2019) found the statistics of $F$ for random weights: width $M$ everywhere, $H$ hidden layers, $C$ outputs, normal labels of variance 1, $N$ independent inputs. To leading order in $M$
#
# $$\text{mean} = \kappa_1 \frac{C}{M}, \qquad \lambda_{\max} = H M \Bigl(\frac{N-1}{N}\,\kappa_2 + \frac{\kappa_1}{N}\Bigr).$$
#
# $\kappa_1$ comes from the squared length of signals and gradients of one input, $\kappa_2$ from the overlaps of two, multiplied layer by layer: quantities of the mean-field theory (A4).

# %% [markdown]
# *Why.* The entries of $N R R^\top$ are about $H M \kappa_2$, on the diagonal $H M \kappa_1$: a constant matrix plus a diagonal. Its large eigenvector is $(1, \dots, 1)$, *all answers rise together*, one such vector for each output. The other nonzero eigenvalues, the *bulk*, lie about $H M (\kappa_1 - \kappa_2)/N$.

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
largest = {b: torch.tensor([[s[0] for s in row] for row in rows])
           for b, rows in stats.items()}
total = [H * M**2 + H * M + M + 1 for M in widths]
mean = torch.tensor([[s.sum() / p for s, p in zip(row, total)]
                     for row in stats[0.5]])
top = {b: torch.stack([law[b].largest(M, N) for M in widths])
       for b in law}
centre = torch.stack([law[0.5].mean(M) for M in widths])
middle = torch.tensor([[s.median() for s in row]
                       for row in stats[0.5]])
size = torch.tensor(widths, device=centre.device)
bulk = H * size * (law[0.5].kappa_1 - law[0.5].kappa_2) / N
above = (largest[0.0] / top[0.0].cpu()).mean(0)
for b in law:
    print(f"σ_b = {b}: κ₂ = {law[b].kappa_2:.4f}")
for M, ratio in zip(widths, above):
    print(f"no biases, M = {M}: {ratio:.2f} of the formula; "
          f"1 + 2√(N/M) = {1 + 2 * (N / M)**0.5:.2f}")

# %% tags=["figure"] mystnb={"image": {"alt": "Against width, on logarithmic axes: the largest eigenvalue grows in proportion, the mean of all falls in inverse proportion, both on their lines; the median of the nonzero ones comes up to its line. Without biases the largest lies above its line, less at great width."}}
claim("A6.c2", mean[:, -1] / centre[-1], predicted=1)
growth = (largest[0.5][:, -1] / largest[0.5][:, 1]) ** (
    1 / (len(widths) - 2))
claim("A6.c3", growth, predicted=2)
claim("A6.c4", largest[0.5][:, -1] / top[0.5][-1], predicted=1)
claim("A6.c5", largest[0.0][:, -1] / top[0.0][-1], predicted=1)
curves.laws(
    widths, {"largest": largest[0.5], "mean of all": mean,
             "largest, no biases": largest[0.0],
             "median nonzero": middle},
    {"largest": top[0.5], "mean of all": centre,
     "largest, no biases": top[0.0], "median nonzero": bulk},
    "Wider: the nonzero eigenvalues grow, the zeros multiply",
    xlabel="width $M$", ylabel="eigenvalue", log=True)

# %% [markdown] tags=["reads"]
# The mean is on its line ($1.00 \pm 0.13$ of the prediction), the largest doubles with the width ($1.93 \pm 0.17$) and is $1.043 \pm 0.078$ times what is predicted. The last claim was to fail: without biases it is $1.53 \pm 0.21$ times the formula. For odd $\varphi$
# two unrelated inputs have overlap 0 at every depth, so $\kappa_2 = 0$: the formula is then only the *mean* of the nonzero eigenvalues. The largest of a crowd lies above, by about $1 + 2\sqrt{N/M}$, here 1.56, which great width removes.

# %% [markdown]
# ## Explore: what makes the outlier
#
# In the picture at the top: (1) $\sigma_b = 0.5$, 20 samples, then 60: where does the first dot go, where the others? (2) The same at $\sigma_b = 0$. (3) Which of the two lines do you trust at width 16?
#
# <details><summary>Answers</summary>(1) The first nearly stays, 30.0 to 22.5; the second halves, the median falls to 1/3.4. (2) The first only halves: the edge of a crowd, no outlier. (3) Neither; the largest still less: mean 0.0682 against 0.0499, largest 6.67 against 3.30.</details>

# %% [markdown]
# ## How long may a step be?
#
# Gradient descent on the mean of $\tfrac12|f - \text{target}|^2$, near a minimum with $f = \text{target}$: there the Hessian *is* $F$, since $f - \text{target}$, which multiplies $D^2\!f$, is 0. Along an eigenvector each step multiplies the distance by $1 - \eta\lambda$: the way back to *a* minimum (along the zeros nothing moves)
# is safe for $\eta < 2/\lambda_{\max}$, and above it you are thrown out. Kick a network a little and see.

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

# %% tags=["figure"] mystnb={"image": {"alt": "Loss against the step: with a little less than two over lambda it falls, with a little more it rises after two steps, and with a step from the formula that ignores the spread it explodes, until the units saturate at step 13."}}
factor = (back["1.1 of 2/λ"][:, -1] / back["1.1 of 2/λ"][:, -6]) ** 0.1
claim("A6.c6", factor, predicted=abs(1 - 2.2))
first = {name: losses[0, :16] for name, losses in back.items()}
for name, losses in back.items():
    decades = (losses[:, 15] / losses[:, 0]).log10().mean()
    print(f"{name}: {decades:+.1f} decades in 15 steps")
eigenvalues.descent(
    first, "One network: above 2/λ it leaves its minimum")

# %% [markdown] tags=["reads"]
# Slightly below, the loss falls; slightly above, after two steps it grows, the distance by a factor of $1.1982 \pm 0.0042$ a step, as $|1 - 1.1 \cdot 2| = 1.2$ says. The third took $\lambda_{\max}$ from the formula where $\kappa_2 = 0$: it looks safe, and explodes until tanh saturates.

# %% [markdown]
# ## Other parameters, same functions
#
# Write weights in other units, or as $\theta = \sinh \varphi$: the same functions, other coordinates. Scores follow the chain rule, $\nabla_\varphi \log p = A^\top \nabla_\theta \log p$ with $A = \partial\theta/\partial\varphi$.
#
# ## Exercise A6.3 · change of parameters
#
# Write `pulled_back(F, A)`: the Fisher matrix in $\varphi$. Careful: a metric is not a linear map.

# %% tags=["exercise"]
def pulled_back(F, A):
    """The Fisher matrix in φ; A is the Jacobian of θ(φ)."""
    ...

check("A6.3", pulled_back)     # stuck? hint("A6.3")

# %% [markdown]
# ## The natural gradient
#
# Which small step of given *divergence* $\tfrac12 v^\top F v$ lowers the loss most? Lagrange: $g + \mu F v = 0$, $\mu > 0$, so $v \propto -F^{-1} g$ with $g = \nabla L$. This is the **natural gradient** (Amari 1998). In $\varphi$ it reads
# $(A^\top F A)^{-1} A^\top g = A^{-1} F^{-1} g$: carried back by $A$, the same step. The plain one becomes $A A^\top g$. $F$ and $A$ must be regular.
#
# ## Exercise A6.4 · a natural step
#
# Write `natural_step(F, g, eta, damping)`: what you *add* to the parameters. Where $F$ is nearly singular one uses $F + \delta I$ with a small *damping* $\delta$.

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
    loss = (net(eight) - wanted).square().sum(1).mean() / 2
    g = flat(torch.autograd.grad(loss, [*net.parameters()]))
    F = fisher.matrix(net, eight, "gaussian").detach()
    A = theta.asinh().cosh().diag()
    v, w = step(F, g), step(A.T @ F @ A, A.T @ g)
    old, apart = net(eight).detach(), []
    for s in etas:
        a = at(net, theta - s * v)(eight).detach()
        b = at(net, (theta.asinh() - s * w).sinh())(eight).detach()
        apart.append((a - b).norm() / (a - old).norm())
    return torch.stack(apart)

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
# Plain: at $\eta = 1/256$ the two functions still differ by 0.31954 of the step, however small the step: they go different ways. Natural: 0.00087, and twice the step gives $1.99713 \pm 0.00016$ times as much, towards 2 as $\eta \to 0$. Damped: it stays near $0.0490 \pm 0.0059$.

# %% [markdown]
# ## Where it fails
#
# *Finite steps.* The invariance is of first order only. At $\eta = 1$ the natural steps disagree by 0.149, the damped by 0.078 only; affine $\theta(\varphi)$ would keep them. *Damping.* $\delta I$ measures in the coordinates at hand, so it brings them back; the last claim fails. *A singular* $F$ has no inverse: a reader's softmax
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
#
# Stage A ends here: one metric on outputs, pulled back wherever you stand. Stage B asks what training does to it.

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
