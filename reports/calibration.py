# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [raw]
"""What the calibration of a trained cell does: alpha over time, over layers and over training.

It is drawn from the exported files in the same folder. To execute it again, open it in that folder with tadaconv
installed, or name the folder below; figures are saved in its figures/ again.
"""

# %%
from tadaconv.reporting.calibration import figures, page
from tadaconv.reporting.calibration.data import read_calibration
from tadaconv.reporting.core.figure import show
from tadaconv.reporting.core.provenance import provenance

# %% tags=["parameters"]
folder = "."
layers = []  # layers whose alpha is shown over time, by name as in layers.csv; empty: the last layer of each stage

# %%
export = read_calibration(folder)
page.headline(export)

# %% [markdown]
# ## Alpha over time

# %%
page.clips(export)

# %%
show(figures.alpha_over_time(export, layers), folder)

# %% [markdown]
# ## From the first layer to the last

# %%
show(figures.alpha_spread(export), folder)

# %%
page.layers(export)

# %% [markdown]
# ## Over training

# %%
show(figures.alpha_over_training(export), folder)

# %%
page.conditions(export)

# %%
provenance(export.manifest.cells, page.cell_lines(export))

# %%
page.methods()
