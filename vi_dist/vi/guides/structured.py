"""Structured Gaussian: full-rank within a block of latents, a few directions of dependence between blocks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal
from torch.nn.functional import pad, softplus

from vi_dist.vi.guides.blocks import block_of_each
from vi_dist.vi.guides.family import INITIAL_SCALE, Family, Leaves, Scale, fixed_normals, raw_scales
from vi_dist.vi.guides.full_rank import triangle_pace, unit_triangle
from vi_dist.vi.guides.mean_field import LOG_SQRT_2PI, gaussian_of_draw
from vi_dist.vi.noise import NoiseSpace


class Structured(Family):
    """Gaussian whose scale is block lower triangular, full in the blocks and of low rank between them.

    Block b, one latent unless `blocks` groups them, given the blocks before it:

        z_b = loc_b + s_b * (L_b e_b + U_b m_b),    m_b = sum over a < b of V_a^T e_a,

    e standard normal, s = softplus(raw_scale), L_b unit lower triangular (`lower` holds what stands below the
    diagonals), U_b and V_a with `rank` columns (`receive` and `send`). So the mean of a block depends linearly on the
    standardised noise of the blocks before it, through `rank` messages. In one matrix, z = loc + s * T e with
    T = L + P * (U V^T), P the places between blocks; the density solves with T.

    A full-rank guide has d_a d_b entries between any two blocks, this one `rank` numbers a coordinate for sending and
    as many for receiving. Where that is no saving (two scalars, say) the blocks are merged into one: there are never
    more leaves than in `full_rank`, and as many only where the two are the same family.

    A Gaussian form of the structured guides of Hoffman and Blei (arXiv 1404.4114) and Pyro's AutoStructured.

    Args:
        space: the coordinates, grouped by latent.
        rank: number of messages between blocks.
        blocks: groups of latents, ``mu + tau | theta``; others are blocks of their own.
    """

    def __init__(self, space: NoiseSpace, rank: int = 1, blocks: str = "") -> None:
        super().__init__(space)
        self.rank = rank
        block = torch.tensor(block_of_each(space, blocks), dtype=torch.int64)
        sizes = torch.bincount(block)
        between = (self.size**2 - int(sizes.square().sum())) // 2
        messages = rank * (2 * self.size - int(sizes[0]) - int(sizes[-1]))
        if messages >= between:
            block, sizes = torch.zeros_like(block), torch.tensor([self.size])
        self.blocks = len(sizes)
        # Coordinates sorted by block, and the block's number in that order.
        self._order = torch.argsort(block, stable=True)
        self._back = torch.argsort(self._order)
        self._block = block[self._order]
        self._inside = (self._block[:, None] == self._block).tril(-1)
        self._first, self._last, self._largest = int(sizes[0]), int(sizes[-1]), int(sizes.max())

    @property
    def pace(self) -> dict[str, float]:
        return triangle_pace(self._largest)

    def initial(self, loc: Tensor, scale: Scale = INITIAL_SCALE) -> dict[str, Tensor]:
        raw = raw_scales(scale, loc)
        leaves = {"loc": loc.clone(), "raw_scale": raw, "lower": loc.new_zeros(int(self._inside.sum()))}
        if self.blocks > 1:
            # U starts at 0, which makes the guide mean-field; V does not, or neither would have a gradient.
            send = fixed_normals("structured", (self.size - self._last, self.rank), loc)
            leaves["send"] = send / send.square().sum(0, keepdim=True).sqrt()
            leaves["receive"] = loc.new_zeros(self.size - self._first, self.rank)
        return leaves

    def draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        mixed = self._sorted(noise) @ self._unit_lower(leaves).transpose(-1, -2)
        own = mixed.index_select(-1, self._back.to(noise.device))
        return leaves["loc"][:, None] + softplus(leaves["raw_scale"])[:, None] * own

    def log_prob(self, leaves: Leaves, z: Tensor) -> Tensor:
        scale = softplus(leaves["raw_scale"])
        scaled = self._sorted((z - leaves["loc"][:, None]) / scale[:, None])
        standard = torch.linalg.solve_triangular(
            self._unit_lower(leaves), scaled.transpose(-1, -2), upper=False, unitriangular=True
        )
        constant = scale.log().sum(-1) + LOG_SQRT_2PI * self.size
        return -0.5 * (standard * standard).sum(-2) - constant[:, None]

    def density_of_draw(self, leaves: Leaves, noise: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        scale = softplus(leaves["raw_scale"])
        rows = torch.linalg.solve_triangular(
            self._unit_lower(leaves).transpose(-1, -2),
            self._sorted(-noise).transpose(-1, -2),
            upper=True,
            unitriangular=True,
        )
        slope = rows.transpose(-1, -2).index_select(-1, self._back.to(noise.device)) / scale[:, None]
        return self.log_q_of_draw(leaves, noise), slope

    def log_q_of_draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        return gaussian_of_draw(leaves, noise)

    def distribution(self, leaves: Leaves) -> Distribution:
        back = self._back.to(leaves["loc"].device)
        rows = softplus(leaves["raw_scale"])[:, None] * self._unit_lower(leaves).index_select(-2, back)
        return MultivariateNormal(leaves["loc"], covariance_matrix=rows @ rows.transpose(-1, -2))

    def _sorted(self, values: Tensor) -> Tensor:
        """Values of all coordinates `(..., d)` in order of blocks."""
        return values.index_select(-1, self._order.to(values.device))

    def _unit_lower(self, leaves: Leaves) -> Tensor:
        """T, `(*batch, d, d)`, in order of blocks."""
        within = unit_triangle(leaves["lower"], self._inside)
        if self.blocks == 1:
            return within
        earlier = (self._block[:, None] > self._block).to(within)
        send = pad(leaves["send"], (0, 0, 0, self._last))
        receive = pad(leaves["receive"], (0, 0, self._first, 0))
        return within + earlier * (receive @ send.transpose(-1, -2))
