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
"""The report of a design study: its best trials, the Pareto front of score and cost, and the importance of parameters.

It is drawn from the exported files in the same folder. To execute it again, open it in that folder with tadaconv
installed, or name the folder below; figures are saved in its figures/ again.
"""

# %%
from tadaconv.reporting.core.figure import show
from tadaconv.reporting.study import figures, page
from tadaconv.reporting.study.data import read_study
from tadaconv.reporting.study.importance import importance

# %% tags=["parameters"]
folder = "."

# %%
export = read_study(folder)
page.headline(export)

# %%
page.confirmation(export)

# %%
page.ranking(export)

# %%
page.cost_heading(export)

# %%
show(figures.pareto(export), folder)

# %%
show(figures.placement_map(export), folder)

# %%
found = importance(export)
page.importances(found)

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
page.every_trial(export)

# %%
page.unfinished(export)

# %%
page.infeasible(export)

# %%
page.conditions(export)

# %%
page.provenance(export)

# %%
page.methods(export, found)
