# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %%
# Draws the report of an ablation table from the files that were exported with it. To execute it again, open it in
# their folder, or say below where they lie; figures are drawn anew into the folder's figures/.
from tadaconv.reporting import blocks, figures
from tadaconv.reporting.export import read_export

# %% tags=["parameters"]
folder = "."

# %%
export = read_export(folder)
blocks.headline(export)
