"""The regime ``proxy`` of before: results that were made under that name are reported and continued with this one."""

from tadaconv.regimes.proxy import REGIME as PROXY
from tadaconv.spec import Synthetic

REGIME = PROXY.but(
    summary="the regime proxy of before, for results that were made with it",
    formerly="proxy",
    data=Synthetic(num_frames=8, size=112, num_train=6400, num_val=1600, noise=0.05),
    schedule__curve_clips=0,
)
