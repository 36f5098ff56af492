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
"""The report of a design study: its best trials, the front of accuracy against cost, and what matters.

It is drawn from the files that were exported beside it. To execute it again, open it in that folder with tadaconv
installed, or name the folder below; figures are saved anew in its figures/.
"""

# %%
from tadaconv.reporting.figures import show
from tadaconv.reporting.study import blocks, figures
from tadaconv.reporting.study.frame import read_study
from tadaconv.reporting.study.importance import importance

# %% tags=["parameters"]
folder = "."

# %%
export = read_study(folder)
blocks.headline(export)

# %%
blocks.confirmation(export)

# %%
blocks.ranking(export)

# %% [markdown]
# ## Accuracy against cost

# %%
show(figures.pareto(export), folder)

# %%
show(figures.placement_map(export), folder)

# %%
found = importance(export)
blocks.importances(found)

# %%
show(figures.importance(found), folder)

# %%
show(figures.slices(export), folder)

# %% [markdown]
# ## How the search went

# %%
show(figures.best_so_far(export), folder)

# %%
show(figures.learning_curves(export), folder)

# %%
blocks.every_trial(export)

# %%
blocks.unfinished(export)

# %%
blocks.infeasible(export)

# %%
blocks.conditions(export)

# %%
blocks.provenance(export)

# %%
blocks.methods(export, found)
