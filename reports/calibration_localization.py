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
"""What the calibration of a trained cell of localization does: alpha over time beside segments, and over layers.

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
layers = []  # layers whose alpha is shown over time, by name as in layers.csv; empty: the one that varies most

# %%
export = read_calibration(folder)
page.headline(export)

# %% [markdown]
# ## Alpha over time, and segments

# %%
show(figures.alpha_and_segments(export, layers), folder)

# %%
page.segments(export)

# %% [markdown]
# ## At boundaries and elsewhere

# %%
show(figures.alpha_changes(export), folder)

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
