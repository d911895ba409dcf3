# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 00 · Start here
#
# A circle of inputs passes through three networks. They have the same depth, width and random numbers; only the scale $\sigma_w$ of the weights differs. Focus the slider and
# press the right arrow key. One image shrinks to a speck, one keeps its length, one turns to wool.
# **Which number, computed from a single layer, decides?**

# %% tags=["figure"] mystnb={"image": {"alt": "Images of one circle in three networks. At weight scale 1.0 it shrinks, at 1.4 it keeps its length, at 2.5 it grows into a tangle."}}
import torch
from torch import nn

from labkit import Chain
from labkit.geometry.spectra import log_spectrum
from labkit.lessons import check, explore, hint, progress, setup
from labkit.lessons import solution
from labkit.lessons.environment import environment
from labkit.plots import matrices
from labkit.training import datasets
from labkit.training.loop import fit

explore("S0")

# %% [markdown]
# | | |
# |---|---|
# | **You will have** | moved a slider · passed a check (S0.1) · seen the chain of a network that you trained yourself |
# | **Time** | 15 minutes |
# | **You need** | Python, matrices, and what a derivative is |
# | **Then** | A1, the Jacobian chain |

# %% tags=["parameters"]
profile: str = "fast"     # "full" measures on more networks, longer
seed: int = 0             # of all random numbers
device: str = "cpu"       # "cuda" on a machine with an NVIDIA GPU

# %% [markdown]
# ## Is everything there?
#
# Run the next cell with Shift+Enter. It names what your machine has, and for anything missing the line that brings it. Every lesson begins with such a `setup`; run it again after
# you change a parameter above.

# %%
setup(profile, seed, device)
print(environment())

# %% [markdown]
# ## The question of this course
#
# A network is a composition of *links* (a matrix, an activation, a block), so its derivative is the *product* of their Jacobians, $Df = J_L \cdots J_1$. That product decides which small changes of the input survive and
# which die, and its change from point to point bends surfaces. The geometry that it puts on the inputs is
#
# $$g_x = Df(x)^\top Df(x).$$

# %% [markdown]
# | stage | question | lessons |
# |---|---|---|
# | **A** the words | what are the chain, its metric, its symmetries and its curvature? | A1 [The Jacobian chain](A_formalization/A1_jacobian_chain.ipynb) · A2 [The pullback metric](A_formalization/A2_pullback_metric.ipynb) · A3 [Symmetry and the kernel of the metric](A_formalization/A3_symmetry.ipynb) · A4 [The dictionary](A_formalization/A4_dictionary.ipynb) · A5 [Nonlinearity makes curvature](A_formalization/A5_curvature.ipynb) · A6 [Fisher geometry on parameters](A_formalization/A6_fisher.ipynb) |
# | **B** the instruments | what do they show in ResNets and Transformers, at the start and after training? | B1–B6 to come |
# | **C** the levers | which designs keep a deep network healthy, and at what price? | C1–C5 to come |

# %% [markdown]
# ## How a lesson works
#
# You **predict** before you measure, move an **explorer**, and solve **exercises**. A check names the slip, never the answer. A **claim** puts a formula or a popular saying beside a
# measurement and says whether it holds; some are expected to fail.
#
# First exercise: above each panel stands the length of the image, in lengths of the circle. Write the function that measures it.

# %% tags=["exercise"]
def length(points):
    """Length of the closed polygon through the points, (n, d)."""
    ...

check("S0.1", length)
# hint("S0.1")       # without the "#": a rung of the ladder
# solution("S0.1")   # when you have tried

# %% [markdown]
# ## A network of your own
#
# Now train a small network on real handwritten digits, 64 pixels to 10 *logits*, one a class. Change the number of units, or add a layer: the rest of the notebook follows.

# %%
data = datasets.digits(device=device)
model = nn.Sequential(nn.Linear(64, 24), nn.Tanh(),
                      nn.Linear(24, 24), nn.Tanh(),
                      nn.Linear(24, 10)).to(device)
history = fit(model, data, epochs=15, seed=seed)
print(f"test accuracy {history.accuracy[-1]:.1%}")

# %% [markdown]
# `Chain` takes its layers as links. `linearize` computes the Jacobian of each at one image, once; all of the course starts from there.

# %% tags=["figure"] mystnb={"image": {"alt": "The Jacobians of the five links of the trained network at one digit, as images, and their product with ten rows and sixty-four columns."}}
image = data.test.inputs[:1]
lin = Chain(model).linearize(image)
print("sizes of the states:", lin.sizes)
matrices.factors([jacobian[0] for jacobian in lin], lin.dense()[0],
                 "Your network at one digit: five links, one product")

# %%
spectrum = log_spectrum(lin)
stretch = spectrum.values[0, :10].exp()
print("ten stretches:", *(f"{s:.2g}" for s in stretch))
print("directions of 64 that survive:", spectrum.rank.item())

# %% [markdown]
# The singular values of $Df$ say by how much the network stretches: its strongest direction, the next, and so on. At most ten of 64 directions change any logit, since there are only ten. A2 asks what
# the others look like, A3 walks along them.

# %% [markdown]
# ## Where to go
#
# The number you were asked for is $\chi_1 = \sigma_w^2\,\mathbb{E}\,\phi'(h)^2$, where $\phi$ is the activation and $\mathbb{E}$ the mean over the units' inputs $h$: one wide layer multiplies the squared length of a small step by it. Below 1, at 1, above 1 are the three pictures; A4 derives it.
#
# Open [A1 · The Jacobian chain](A_formalization/A1_jacobian_chain.ipynb). Your answers and guesses are kept in a small file beside these notebooks; no update overwrites what you change.

# %%
progress()
