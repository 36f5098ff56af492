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
"""What tada bench measured: times relative to the plain network, with intervals.

It is drawn from the exported files in the same folder. To execute it again, open it in that folder with tadaconv
installed, or name the folder below; figures are saved in its figures/ again.
"""

# %%
from tadaconv.reporting.benchmark import figures, page
from tadaconv.reporting.benchmark.data import read_benchmark
from tadaconv.reporting.core.figure import show

# %% tags=["parameters"]
folder = "."

# %%
manifest = read_benchmark(folder)
page.headline(manifest)

# %%
for drawing in figures.ratios(manifest):
    show(drawing, folder)

# %%
page.results(manifest)

# %%
page.provenance(manifest)

# %%
page.methods(manifest)
