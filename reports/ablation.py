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
"""The report of an ablation table: the answer, all verdicts, rows, claims, figures, and where each number comes from.

It is drawn from the exported files in the same folder. To execute it again, open it in that folder with tadaconv
installed, or name the folder below; figures are saved in its figures/ again.
"""

# %%
from tadaconv.reporting.ablation import figures, page
from tadaconv.reporting.ablation.data import read_export
from tadaconv.reporting.core.provenance import provenance

# %% tags=["parameters"]
folder = "."

# %%
export = read_export(folder)
page.headline(export)

# %%
figures.show(figures.verdicts(export), folder)

# %%
page.results(export)

# %%
page.claims(export)

# %%
page.learned(export)

# %%
page.failures(export)

# %%
figures.heading(export)

# %%
figures.show(figures.accuracy_by_row(export), folder)

# %%
figures.show(figures.differences(export), folder)

# %%
figures.show(figures.accuracy_by_family(export), folder)

# %%
figures.show(figures.precision_by_class(export), folder)

# %%
figures.show(figures.accuracy_by_macs(export), folder)

# %%
figures.show(figures.accuracy_by_latency(export), folder)

# %%
figures.show(figures.placement_map(export), folder)

# %%
figures.show(figures.gain_by_class(export), folder)

# %%
figures.show(figures.confusion(export), folder)

# %%
figures.show(figures.detection_scores(export), folder)

# %%
figures.show(figures.learning_curves(export), folder)

# %%
figures.show(figures.calibration_over_training(export), folder)

# %%
page.conditions(export)

# %%
provenance(export.manifest.cells, export.cells.to_dict("records"), export.manifest.left_out)

# %%
page.methods(export)
