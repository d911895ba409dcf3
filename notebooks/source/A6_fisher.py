# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A6 · Fisher geometry on parameters
#
# A random network with biases of scale $\sigma_b$ reads twenty inputs. Each dot is a direction among the weights: the higher, the more a step along it changes the
# answers. One, the *outlier*, stands apart from the *bulk*; the bar counts those that change nothing, to first order.
# **Which steps of the weights does a network feel, and how far may you go along the one it feels most?**

# %% tags=["figure"] mystnb={"image": {"alt": "Eigenvalues of the Fisher matrix by number, on logarithmic axes: one dot at thirty, a little above the upper line, the predicted outlier at 26; nineteen that fall from sixteen to five around the lower line, the predicted bulk; a long bar of zeros on the floor."}}
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
# | **You need** | A2: the Fisher metric on inputs; A4: lengths, overlaps, $\sigma_w$, $\sigma_b$; A5: curvature |
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
widths = [2**k for k in range(6, 11) if 2**k <= widest]
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
# its *predictions* went, as a divergence, mean over 100 test pictures. Two steps: a random one, and the worst to leading order.

# %%
def build(seed):
    return mlp(3, width, activation, sigma_w=1.4, sigma_b=0.3,
               n_in=64, n_out=10, seed=seed, device=device)

readers = [build(seed + k) for k in range(repeats)]
right = [fit(net, data, epochs=10, lr=1e-3, batch_size=50,
             seed=seed + k).accuracy[-1]
         for k, net in enumerate(readers)]
P = sum(p.numel() for p in readers[0].parameters())
print(f"{P:,} parameters, right on {torch.stack(right).mean():.1%}")
flat = nn.utils.parameters_to_vector
sizes = 2.0 ** torch.arange(-8, 0, device=device)

# %%
def divergence(net, other):
    """KL of the predictions, mean over the pictures."""
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
times = near["worst"][:, 0] / near["random"][:, 0]
print(f"worst / random: {times.min():.0f} to {times.max():.0f}")
off = (found["worst"] / near["worst"] - 1).abs().amax(0)
print(f"the metric misses at most {off[0]:.1%} at 1/256, "
      f"{off[5]:.1%} at 1/8")
curves.laws(sizes, found, lines, log=True,
            title="Predictions feel one step, and hardly the other",
            xlabel="length of the step", ylabel="divergence (nats)",
            lines=r"$s^2 v^T F v\,/\,2$ of the same networks")

# %% [markdown] tags=["reads"]
# About a thousand times the divergence. The lines are $\tfrac12 s^2 v^\top F v$, computed without any walking, and in the worst direction right to 10.5 % even at a step of 1/8. $F$ is
# the Fisher matrix. This lesson is about its shape.

# %% [markdown]
# ## The statement
#
# A model turns parameters into a density of labels, $p_\theta(y \mid x)$, positive and $C^3$ in $\theta$. Its **Fisher matrix** is the second moment of the score, for labels *the model itself* would give:
#
# $$F(\theta) = \mathbb{E}_x\,\mathbb{E}_{y \sim p_\theta}\bigl[\nabla_\theta \log p_\theta(y|x)\; \nabla_\theta \log p_\theta(y|x)^\top\bigr].$$
#
# **Then**, if sums (integrals) over $y$ may be differentiated and third derivatives of $\log p$ are dominated near $\theta$, $\;\mathbb{E}_x\,\mathrm{KL}(p_\theta \,\|\, p_{\theta+v}) = \tfrac12\, v^\top F v + O(|v|^3).$
#
# *Proof.* At $v = 0$ KL has value and gradient 0, second derivative $-\mathbb{E}\,\nabla^2 \log p$. Differentiate $\sum_y p = 1$ twice: $\mathbb{E}\,\nabla^2 \log p +
# \mathbb{E}\,\nabla \log p\, \nabla \log p^\top = 0$. $\square$

# %% [markdown]
# *Two pullbacks.* If a network $f$ gives the parameters of a family with Fisher matrix $S(f)$, the chain rule leaves
#
# $$F = \mathbb{E}_x\, J_\theta^\top\, S\, J_\theta, \qquad G_x = J_x^\top\, S\, J_x,$$
#
# the second being A2's metric on inputs: one metric on outputs, pulled back twice. For logits $S = \operatorname{diag} p - p\,p^\top$; for normal labels of variance $\sigma^2$, $S = I/\sigma^2$.

# %% [markdown]
# *What it needs.* $F \ge 0$ always; it is a metric only where it has full rank. Labels are the model's: a data set's give the **empirical Fisher matrix**. $F$ needs one derivative, the
# expansion more: at a kink of ReLU the expansion can fail.
#
# ## Measure: two closed forms
#
# Least squares and softmax regression have $F$ in one line. Does the machine agree?

# %%
X, W = x[:, 20:26], torch.randn(4, 6, device=device)
p = (X @ W.mT).softmax(1)
S = torch.diag_embed(p) - p[:, :, None] * p[:, None]
forms = {"gaussian": X.mT @ X, "categorical": sum(
    torch.kron(s, row.outer(row)) for s, row in zip(S, X))}
for name, by_hand in forms.items():
    model = nn.Linear(6, len(by_hand) // 6, bias=False, device=device)
    model.weight.data.copy_(W[:model.out_features])
    F, by_hand = fisher.matrix(model, X, name), by_hand / len(X)
    off = (F - by_hand).abs().max() / by_hand.abs().max()
    print(f"{name}: relative difference {off:.0e}")

# %% [markdown]
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
# ## A step of the weights is a step of the picture
#
# The first layer reads $h = Wx + b$. Change the picture by $v$, or the weights by $dW = (Wv)\,x^\top/|x|^2$: $h$ moves alike, and nothing behind it can tell. So the metric on weights, *at this one picture*, and
# the metric on inputs must give one number.

# %%
net, one = readers[0], x[:1]
v = torch.randn(64, device=device)
lin, probs = net.linearize(one), net(one).softmax(1)
on_input = v @ fisher.on_inputs(lin, probs)[0] @ v
step = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
first = next(name for name, p in step.items() if p.ndim == 2)
W = dict(net.named_parameters())[first]
step[first] = (W @ v).outer(one[0]) / one.square().sum()
F_step = fisher.product(net, one, "categorical", step)
on_weights = (F_step[first] * step[first]).sum()
print(f"input {on_input:.4f}, weights {on_weights:.4f}, "
      f"apart {(on_input - on_weights).abs():.0e}")

# %% [markdown] tags=["reads"]
# 0.0428 both times: one metric, on the output. For $B$ arbitrary steps at once the $B$ pictures must be linearly independent: at most 64.
#
# ## The spectrum, from the small side
#
# With a root $S = T T^\top$ stack $T^\top J_\theta/\sqrt{B}$ of all $B$ pictures: $F = R^\top R$ with $n = B C$ rows. For $n \le P$ at least $P - n$ eigenvalues are 0.
#
# ## Exercise A6.2 · dual spectrum
#
# Write `dual_spectrum(R)`: the $n$ largest eigenvalues of $R^\top R$, descending. One $R$ of the check is a row of eight million.

# %% tags=["exercise"]
def dual_spectrum(R):
    """The n largest eigenvalues of RᵀR; R is (n, P), n <= P."""
    ...

check("A6.2", dual_spectrum)   # stuck? hint("A6.2")

# %% tags=["figure"] mystnb={"image": {"alt": "Eigenvalues by number on logarithmic axes. The Fisher matrix has 900, falling over seven powers of ten; the empirical one has only 100 and falls sooner; a bar on the floor counts the zeros."}}
spectra = [fisher.spectrum(net, x, "categorical") for net in readers]
own = [fisher.empirical_spectrum(net, x, "categorical", y)
       for net in readers]
trace = torch.stack([values.sum() for values in spectra])
share = spectra[0].cumsum(0) / spectra[0].sum()
half, most = ((share < part).sum() + 1 for part in (0.5, 0.99))
print(f"rank {len(share)}, half the trace in {half}, 99 % in {most}")
eigenvalues.numbered(
    {"Fisher": spectra[0], "with the data's labels": own[0]}, P,
    f"Reader 0: {half} directions hold half of the trace",
    limits=(1e-9, 30))

# %%
def drawn(net):
    """Mean trace with labels that the model draws itself."""
    labels = Categorical(logits=net(x).detach()).sample((20,))
    return sum(fisher.empirical_spectrum(net, x, "categorical", row)
               .sum() for row in labels) / len(labels)

claim("A6.c1", torch.stack([v.sum() for v in own]) / trace, predicted=1)
honest = torch.stack([drawn(net) for net in readers]) / trace
sure, said = torch.stack([net(x).softmax(1) for net in readers]).max(2)
print(f"right {(said == y).double().mean():.0%}, sure "
      f"{sure.mean():.0%}; drawn labels: {honest.mean():.2f} ± "
      f"{4 * honest.std() / repeats**0.5:.2f} of the trace")

# %% [markdown] tags=["reads"]
# A hundred pictures, ten logits: 1,000 rows; softmax ignores common shifts: rank 900. Half of reader 0's trace sits in 10 eigenvalues; 8,070 are zero.
#
# "The empirical Fisher is the Fisher": fails, with $0.35 \pm 0.10$ of the trace (±: four standard errors over networks). Here the readers are right on 98 % but only 91 % sure: true labels surprise them less than their own would ($0.98 \pm 0.07$). Were doubts honest, the two traces would agree on average.


# %% [markdown]
# ## Great width
#
# Karakida, Akaho & Amari (2019): width $M$ in the input and all $H$ hidden layers, $C$ linear outputs, smooth $\varphi$; independent normal weights of variance $\sigma_w^2/M$, biases $\sigma_b^2$; normal labels of variance 1; $N$ inputs of $|x|^2 = M$, orthogonal to leading order. As $M \to \infty$ at fixed $N$, the second where $\kappa_2 > 0$:
#
# $$\text{mean} \simeq \kappa_1 \frac{C}{M}, \qquad \lambda_{\max} \simeq H M \Bigl(\frac{N-1}{N}\,\kappa_2 + \frac{\kappa_1}{N}\Bigr).$$

# %% [markdown]
# $\kappa_1 = \frac1H \sum_l q_{l-1}\, g_l$ over the $H + 1$ weight matrices: $q_{l-1}$ the mean square of the signal that enters (A4), $g_l$ the squared length of an output's gradient at what leaves. $\kappa_2$: the same with products of two inputs' signals and gradients.
#
# *Why.* For one output $N R R^\top$ is about $H M \kappa_2$ everywhere, on the diagonal $H M \kappa_1$. Its large eigenvector is $(1, \dots, 1)$, *all answers rise together*, one for every output; the bulk has the mean $H M (\kappa_1 - \kappa_2)/N$.

# %%
H, N = 2, 40

def wide(M, sigma_b, k, samples=N):  # a network, and its inputs
    net = mlp(H + 1, M, activation, 1.5, sigma_b, n_in=M, n_out=1,
              seed=seed + k, device=device)
    return net, on_sphere(samples, M, seed + k).to(device)

stats = {b: [[fisher.spectrum(*wide(M, b, k), "gaussian")
              for M in widths] for k in range(repeats)]
         for b in (0.5, 0)}
many = torch.stack([fisher.trace(*wide(widest, 0.5, k, 4), "gaussian")
                    for k in range(10 * nets)])

# %%
law = {b: wide_fisher(activation, 1.5, b, hidden=H) for b in stats}
size = torch.tensor(widths)
weights = H * size**2 + (H + 1) * size + 1
top = {b: law[b].largest(size, N) for b in law}
largest, total = ({b: torch.tensor([[of(s) for s in row]
    for row in rows]) for b, rows in stats.items()}
    for of in (torch.max, torch.sum))
for b, of in law.items():
    print(f"σ_b = {b}: κ₁ = {of.kappa_1:.4f}, κ₂ = {of.kappa_2:.4f}, "
          "largest / formula, by width:",
          *(f"{r:.2f}" for r in (largest[b] / top[b]).mean(0)))

# %% tags=["figure"] mystnb={"image": {"alt": "Against width, on logarithmic axes: the largest eigenvalue grows in proportion, the mean of all falls in inverse proportion, both on their lines at great width. Without biases the largest lies above its line, less at great width."}}
claim("A6.c2", many.cpu() / (weights[-1] * law[0.5].mean(widest)), 1)
growth = largest[0.5][:, -1] / largest[0.5][:, 1]
claim("A6.c3", growth ** (1 / (len(widths) - 2)), predicted=2)
claim("A6.c4", largest[0.5][:, -1] / top[0.5][-1], predicted=1)
claim("A6.c5", largest[0][:, -1] / top[0][-1], predicted=1)
curves.laws(widths, {"largest": largest[0.5],
    "largest, no biases": largest[0],
    "mean of all": total[0.5] / weights}, {
    "largest": top[0.5], "largest, no biases": top[0],
    "mean of all": law[0.5].mean(size)},
    "Wider: the largest grows, the zeros multiply",
    xlabel="width $M$", ylabel="eigenvalue", log=True)

# %% [markdown] tags=["reads"]
# Over 60 networks the mean is $1.007 \pm 0.028$ of the prediction. It halves with twice the width, the weights multiply by 4: the trace doubles, and so does the largest ($1.91 \pm 0.17$), which is $1.040 \pm 0.093$ times its formula. Without biases odd $\varphi$ has $\kappa_2 = 0$: $1.572 \pm 0.082$ times; this claim was to fail. The formula is then the bulk's mean; the largest lies above by a share of order $\sqrt{N/M}$, small only for $N \ll M$.


# %% [markdown]
# ## Explore: what makes the outlier
#
# At the top, width 128: (1) $\sigma_b = 0.5$, 20 samples, then 60: where does the outlier go, where the bulk? (2) The same at $\sigma_b = 0$. (3) $\sigma_b = 0.5$, 20 samples, width 32: which line do you trust?
#
# <details><summary>Answers</summary>(1) It falls by a quarter, the bulk by two thirds. (2) All fall: it is the bulk's edge. (3) Rather the bulk's: 2.59 for 2.34; the largest is 14.24 for 6.60.</details>


# %% [markdown]
# ## How long may a step be?
#
# Gradient descent on the mean of $\tfrac12|f - \text{target}|^2$, near a minimum with $f = \text{target}$: there the Hessian *is* $F$, since $f - \text{target}$, which multiplies $D^2\!f$, is 0. To first order each step multiplies the distance along an eigenvector by $1 - \eta\lambda$. So from close enough you come back
# for $\eta < 2/\lambda_{\max}$ (along the zeros nothing moves); above it any component along the top grows, until the linear picture ends.

# %%
beside = [wide(128, 0, k) for k in range(repeats)]
tops = [fisher.spectrum(*pair, "gaussian")[:2] for pair in beside]
formula = law[0].largest(128, N)
rates = {"0.9 of 2/λ": lambda t: 1.8 / t,
         "1.1 of 2/λ": lambda t: 2.2 / t,
         "η from the formula": lambda t: 1.8 / formula}
back = {name: torch.stack([
    back_to_minimum(*pair, rate(t[0]), seed=k)
    for k, (pair, t) in enumerate(zip(beside, tops))])
    for name, rate in rates.items()}

# %% tags=["figure"] mystnb={"image": {"alt": "Loss against the step: with a little less than two over lambda it falls all along; with a little more it falls for a few steps and then rises along a straight line; with a step from the formula that ignores the spread it explodes to about one and stays far away, the units saturated."}}
factor = (back["1.1 of 2/λ"][:, -1] / back["1.1 of 2/λ"][:, -6]) ** 0.1
claim("A6.c6", factor, predicted=abs(1 - 2.2))
print("each:", *(f"{f:.3f}" for f in factor), "with λ₂/λ₁:",
      *(f"{t[1] / t[0]:.2f}" for t in tops))
first = {name: losses[0] for name, losses in back.items()}
eigenvalues.descent(
    first, "One network: above 2/λ it leaves its minimum")

# %% [markdown] tags=["reads"]
# Slightly below, the loss falls; slightly above it grows: in steps 35 to 40 the distance by $1.186 \pm 0.057$ a step. Five networks reach $|1 - 1.1 \cdot 2| = 1.200$; in the sixth $\lambda_2 = 0.96\,\lambda_1$ still rules. The formula's $\eta$ explodes until the units saturate.
#
# ## Other parameters, same functions
#
# Let $\theta = \sinh \varphi$, entry by entry. By the chain rule $\nabla_\varphi \log p = A^\top \nabla_\theta \log p$ with $A = \partial\theta/\partial\varphi$.
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
# ## Two old friends are curved
#
# Normal densities $N(\mu, \sigma)$ have $F = \operatorname{diag}(1, 2)/\sigma^2$: locally, for $\sigma > 1/\sqrt2$, a trumpet of radius $1/\sigma$ in space. Probabilities of three labels
# are an octant of a sphere: $F$ is the metric of $2\sqrt p$, since $|d(2\sqrt p)|^2 = \sum dp^2/p$. Do these surfaces' metrics agree with KL? What is their curvature (A5)?


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
    def kl(z, law=family):
        return kl_divergence(law(at), law(z))

    F = back(back(kl))(at)
    jet = Chain([surface]).jet(at[None])
    off = (jet.first[0].mT @ jet.first[0] - F).abs().max()
    K = curvature.scalar_curvature(jet).item() / 2
    print(f"{name}: metric off by {off:.0e}, curvature {K:.3f}")

# %% [markdown] tags=["reads"]
# A hyperbolic plane, curvature $-0.500$ (books that say $-1$ rescale the metric), and a sphere, 0.250, whatever the parameters.
#
# ## Exercise A6.4 · the natural gradient
#
# Which small step of given *divergence* $\tfrac12 v^\top F v$ lowers the loss most? By Lagrange $F v$ is parallel to $g = \nabla L$: the **natural gradient** step $v = -\eta\,F^{-1} g$ (Amari 1998).
#
# Write `natural_step(F, g, eta, damping)`: what you *add* to the parameters. Where $F$ is nearly singular use $F + \delta I$, with *damping* $\delta$.

# %% tags=["exercise"]
def natural_step(F, g, eta, damping):
    """What is added to the parameters, (P,)."""
    ...

check("A6.4", natural_step)    # stuck? hint("A6.4")

# %% [markdown]
# ## Measure: one step, twice
#
# In $\varphi$ the natural direction is $(A^\top F A)^{-1} A^\top g = A^{-1} F^{-1} g$: for regular $F$, $A$ the same step in $\theta$, to first order. The plain one becomes $A A^\top g$.
#
# A pocket reader: eight principal coordinates of a digit, eight hidden units, least squares on ten labels. Take one step in $\theta$, one in $\varphi$, and compare the *functions* on all digits:
# their distance, over how far the step moved.

# %%
spread = torch.linalg.eigh(torch.cov(data.train.inputs.mT))
eight = data.train.inputs @ spread.eigenvectors[:, -8:]
eight = eight / eight.std(0)
wanted = nn.functional.one_hot(data.train.labels, 10).to(eight)
pockets = [mlp(2, 8, activation, sigma_w=1.4, sigma_b=0.3, n_in=8,
               n_out=10, seed=seed + k, device=device)
           for k in range(repeats)]
F = fisher.matrix(pockets[0], eight, "gaussian").detach()
values = torch.linalg.eigvalsh(F)
print(f"{len(F)} parameters, eigenvalues {values[0]:.4f} … "
      f"{values[-1]:.2f}")

# %%
def disagreement(net, step, etas):  # of steps in θ and φ = arsinh θ
    theta = flat(net.parameters()).detach()
    A, phi = theta.asinh().cosh().diag(), theta.asinh()
    loss = (net(eight) - wanted).square().sum(1).mean() / 2
    g = flat(torch.autograd.grad(loss, [*net.parameters()]))
    F = fisher.matrix(net, eight, "gaussian").detach()
    v, w = step(F, g), step(A.T @ F @ A, A.T @ g)
    a, b = (torch.stack([moved(net, to)(eight) for to in ends])
            for ends in ([theta - s * v for s in etas],
                         [(phi - s * w).sinh() for s in etas]))
    apart, far = map(torch.linalg.matrix_norm, (a - b, a - net(eight)))
    return (apart / far).detach()

# %%
etas = 2.0 ** torch.arange(-8.0, 1, device=device)
eye, solve = torch.eye(len(F), device=device), torch.linalg.solve
ways = {"plain": lambda F, g: g, "natural, damping 0.1":
        lambda F, g: solve(F + 0.1 * eye, g), "natural": solve}
differ = {name: torch.stack([disagreement(net, way, etas)
                             for net in pockets])
          for name, way in ways.items()}
for name, rows in differ.items():
    for eta, j in (("1", -1), ("1/256", 0)):
        half = 4 * rows[:, j].std() / repeats**0.5
        print(f"{name}, η = {eta}: "
              f"{rows[:, j].mean():#.2g} ± {half:#.2g}")

# %% tags=["figure"] mystnb={"image": {"alt": "Disagreement of two steps against their size, logarithmic axes. The natural gradient's falls in proportion to the step; the damped and the plain gradient's stay level, and at steps above a quarter the damped one's is the smallest."}}
natural, damped = differ["natural"], differ["natural, damping 0.1"]
claim("A6.c7", natural[:, 1] / natural[:, 0], 2)  # tolerance 0.03
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
# Plain: at $\eta = 1/256$ the two functions differ by $0.29 \pm 0.12$ of the step, however small: they go different ways. Natural: $0.00071 \pm 0.00015$; twice the step gives $1.99728 \pm 0.00023$ times as much: 2, the limit as $\eta \to 0$, within the claim's tolerance of 0.03 (a claim *holds* within its tolerance or its interval). Damped: it stays near $0.0437 \pm 0.0095$.

# %% [markdown]
# ## Where it fails
#
# *Finite steps.* At $\eta = 1$ the natural steps disagree by $0.12 \pm 0.024$, the damped by $0.066 \pm 0.016$; affine $\theta(\varphi)$ would keep natural steps. *Damping.* $\delta I$ measures in the coordinates at hand, so the step depends on them again; the last claim fails. *A singular* $F$ has no inverse: a reader's softmax
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
damped = fisher.natural_gradient(net, *ask, g, damping=1e-2)
print(f"with damping 0.01: length {flat(damped.values()).norm():.2f}")

# %% [markdown]
# ## Your own model
#
# Any `nn.Module` will do. Here is a small convolutional network that nobody trained. Which share of its trace do the ten largest hold?

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
# | directions not felt to first order, on these inputs | kernel of $F$ | `fisher.spectrum` |
# | steepest descent in divergence | a gradient, its index raised | `fisher.natural_gradient` |
# | second moment of *this* data's gradients | no metric of the model | `fisher.empirical_matrix` |

# %% [markdown]
# **Quiz.** Answer before you open.
#
# <details><summary>1. You show every picture twice. What happens to F? To its rank?</summary>Nothing: F is a mean. The rank stays, though there are twice as many rows.</details>
# <details><summary>2. All weights are written in milliunits, φ = 1000 θ. What happens to the eigenvalues of F? To a divergence?</summary>They fall by a million; the divergence of the same change of functions stays. Eigenvalues of F belong to coordinates.</details>

# %% [markdown]
# <details><summary>3. Is the spectrum of F invariant under θ = ψ(φ)?</summary>Not in general; an orthogonal A keeps them. Rank and lengths are invariant; where F is regular, volumes and curvature too.</details>
# <details><summary>4. A network fits all labels perfectly and surely. What are the two matrices?</summary>In the limit, while J stays bounded, both go to 0. On the way, with doubt ε, the empirical one is of order ε², the other ε.</details>

# %% [markdown]
# **Discuss.** (1) "Flat minima generalise": flat in which coordinates? (2) Adam divides by a root of squared gradients. Which matrix is that, and which parts of this lesson does it keep? (3) Which damping would keep the invariance? It must transform as $F$ does.
#
# **Read on.** Amari 1998, Natural gradient works efficiently in learning; 2016, ch. 1–3, 12 · Martens 2020, New insights on the natural gradient.

# %%
progress()
