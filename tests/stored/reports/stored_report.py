# %% [raw]
"""A report of one's own: the rows above a threshold, and one figure."""

# %%
from tadaconv.reporting import blocks, figures
from tadaconv.reporting.export import read_export
from tadaconv.reporting.summary import summarise

# %% tags=["parameters"]
folder = "."
threshold = 5.0

# %%
export = read_export(folder)
summary = summarise(export)
summary[summary["top1_mean"] > threshold]

# %%
blocks.results(export)

# %%
figures.show(figures.accuracy_by_row(export), folder)
