"""The guide families by name; `make(space, **arguments)` gives the family over those coordinates."""

from __future__ import annotations

from vi_dist.vi.guides.delta import DeltaFamily
from vi_dist.vi.guides.full_rank import FullRank
from vi_dist.vi.guides.mean_field import MeanField
from vi_dist.vi.table import Entry

GUIDES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("mean_field", "independent Gaussians in unconstrained space (ADVI)", MeanField),
        Entry("full_rank", "one multivariate Gaussian over all unconstrained coordinates", FullRank),
        Entry("delta", "point estimate: the mode in the model's own space (MAP)", DeltaFamily),
    )
}
