"""The regime ``quick`` of before: results that were made under that name are reported and continued with this one."""

from tadaconv.regimes.quick import REGIME as QUICK
from tadaconv.spec import Schedule, Synthetic

REGIME = QUICK.but(
    summary="the regime quick of before, for results that were made with it",
    formerly="quick",
    data=Synthetic(num_frames=8, size=24, num_train=2400, num_val=800, noise=0.05),
    schedule=Schedule(optimizer="adamw", epochs=4, batch_size=32, lr=1e-2, warmup_epochs=0.25, weight_decay=0.01),
)
