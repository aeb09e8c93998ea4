"""Counter-based noise: every number is a function of (seed, purpose, step, site, sample, index) and of nothing else.

So rows, shards, packs, retries and the order of work cannot change it. The generator is Threefry-2x32 with 20 rounds
(Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011), written in int32 tensor operations, which wrap
around as uint32 do; normals come by Box-Muller, two to a block.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA

TRAINING, EVALUATION, SHIFT, SAMPLING, BATCHES = 0, 1, 2, 3, 4


def threefry(key: tuple[Tensor, Tensor], counter: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Two pseudo-random int32 words for every (key, counter) pair of int32 words; all four broadcast."""
    keys = (*key, key[0] ^ key[1] ^ _PARITY)
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = ((y << rotation) | ((y >> (32 - rotation)) & ((1 << rotation) - 1))) ^ x
        x = x + keys[(group + 1) % 3]
        y = y + (keys[(group + 2) % 3] + (group + 1))
    return x, y


def threefry_(key: tuple[Tensor, Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The same as `threefry`, written over the counters x and y, which have the full shape."""
    keys = (*key, key[0] ^ key[1] ^ _PARITY)
    x, y, turned = x.add_(keys[0]), y.add_(keys[1]), torch.empty_like(y)
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x.add_(y)
            torch.bitwise_right_shift(y, 32 - rotation, out=turned)
            turned.bitwise_and_((1 << rotation) - 1)
            y.bitwise_left_shift_(rotation).bitwise_or_(turned).bitwise_xor_(x)
        x.add_(keys[(group + 1) % 3])
        y.add_(keys[(group + 2) % 3]).add_(group + 1)
    return x, y


def uniform(words: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers in (0, 1] from int32 words; the smallest is 2^-26 (float32) or 2^-33 (float64)."""
    smallest = 2.0**-26 if dtype == torch.float32 else 2.0**-33
    return (words.to(dtype) * 2.0**-32 + (0.5 + 2.0**-33)).clamp_min(smallest)


def _int32(value: int) -> int:
    """A 32-bit word as the signed number that int32 tensors hold."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


def _site_words(name: str) -> tuple[int, int]:
    """64 bits of a site's name: of 32, ten thousand sites would share some by chance, and with them their noise."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return _int32(int.from_bytes(digest[:4], "little")), _int32(int.from_bytes(digest[4:], "little"))


def seed_words(seeds: Sequence[int]) -> Tensor:
    """64-bit seeds as int32 words, `(C, 2)`."""
    return torch.tensor([[_int32(s), _int32(s >> 32)] for s in seeds], dtype=torch.int32).reshape(-1, 2)


@dataclass(frozen=True)
class NoiseSite:
    """A named group of `size` noise coordinates, of which pairs share one block.

    Attributes:
        ids: for a site that belongs to rows of data, the rows' numbers among all rows, int64 `(n,)`: coordinates are
            then n equal parts, and a row's noise depends on its number, not on where or beside what it is.
    """

    name: str
    size: int
    ids: Tensor | None = field(default=None, compare=False, repr=False)

    def blocks(self) -> tuple[Tensor, Tensor]:
        """Numbers of the site's blocks `(B,)`, int64, and the coordinates' places in their 2B numbers `(size,)`."""
        if self.ids is None:
            return torch.arange((self.size + 1) // 2), torch.arange(self.size)
        rows = self.ids.shape[0]
        each = self.size // max(1, rows)
        count = (each + 1) // 2
        numbers = self.ids[:, None] * count + torch.arange(count)
        places = 2 * count * torch.arange(rows)[:, None] + torch.arange(each)
        return numbers.reshape(-1), places.reshape(-1)


@dataclass(frozen=True)
class NoiseSpace:
    """Where each of E noise coordinates comes from: the site's hash and the block within the site.

    Adding, removing or reordering sites does not change the noise of the others.
    """

    sites: tuple[NoiseSite, ...]

    def __post_init__(self) -> None:
        names = [site.name for site in self.sites]
        assert len(set(names)) == len(names), f"two noise sites of one name would share their noise: {names}"

    @property
    def size(self) -> int:
        """Number of coordinates E."""
        return sum(site.size for site in self.sites)

    def blocks(self) -> tuple[Tensor, Tensor, Tensor]:
        """int32 site hashes `(B, 2)` and numbers `(B,)` of all blocks; the coordinates' places in 2B numbers `(E,)`."""
        hashes, numbers, places, first = [], [], [], 0
        for site in self.sites:
            own, inside = site.blocks()
            hashes.append(torch.tensor([_site_words(site.name)], dtype=torch.int32).expand(len(own), 2))
            numbers.append(own)
            places.append(2 * first + inside)
            first += len(own)
        if not self.sites:
            nothing = torch.zeros(0, dtype=torch.int64)
            return nothing.to(torch.int32).reshape(0, 2), nothing.to(torch.int32), nothing
        return torch.cat(hashes), torch.cat(numbers).to(torch.int32), torch.cat(places)


class NormalSource:
    """Standard normals for C configurations over a noise space.

    Every block of a configuration has a key of its own, made beforehand from seed, purpose, site and number; at run
    time one call of Threefry with the counter (step, sample) gives its two words.

    >>> source = NormalSource(NoiseSpace((NoiseSite("theta", 3),)), [0, 1], torch.float64)
    >>> source(TRAINING, torch.tensor([[5, 7]]), samples=4).shape
    torch.Size([1, 2, 4, 3])
    """

    def __init__(
        self, space: NoiseSpace, seeds: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        self.dtype, self.size = dtype, space.size
        self._seeds = seed_words(seeds).to(device)
        hashes, numbers, places = (part.to(device) for part in space.blocks())
        self._hashes, self._numbers = hashes, numbers
        self._places = None if len(places) == 2 * len(numbers) else places
        self._keys: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, purpose: int, steps: Tensor, samples: int, first_sample: int = 0) -> Tensor:
        """Normals `(K, C, S, E)` for steps `(K, C)`; sample k of a step has number `first_sample + k`."""
        key = self.keys(purpose)
        steps = steps.to(torch.int32)[..., None, None]
        sample = torch.arange(first_sample, first_sample + samples, dtype=torch.int32, device=steps.device)
        shape = (*steps.shape[:2], samples, len(self._numbers))
        # Whole tensors and no views: the rounds of Threefry then write in place, which halves their time.
        words = threefry_(
            (key[0], key[1]), steps.expand(shape).clone(), sample[:, None].expand(shape).clone()
        )
        radius = uniform(words[0], self.dtype).log_().mul_(-2).sqrt_()
        angle = uniform(words[1], self.dtype).mul_(2 * math.pi)
        pairs = radius.new_empty(*shape, 2)
        torch.mul(radius, torch.cos(angle), out=pairs[..., 0])
        torch.mul(radius, torch.sin(angle), out=pairs[..., 1])
        flat = pairs.reshape(*shape[:3], -1)
        return flat if self._places is None else flat.index_select(-1, self._places)

    def out_of_place(self, steps: Tensor, samples: int, *keys: Tensor) -> Tensor:
        """The same normals as a pure function of steps and `keys`, for a compiler; slower than a call without one."""
        words = threefry(
            (keys[0], keys[1]),
            (
                steps.to(torch.int32)[..., None, None],
                torch.arange(samples, dtype=torch.int32, device=steps.device)[:, None],
            ),
        )
        radius = (uniform(words[0], self.dtype).log() * -2).sqrt()
        angle = uniform(words[1], self.dtype) * (2 * math.pi)
        flat = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), -1).flatten(-2)
        return flat if self._places is None else flat.index_select(-1, self._places)

    def keys(self, purpose: int) -> tuple[Tensor, Tensor]:
        """Keys of all blocks of all configurations, two words `(C, 1, B)` each."""
        if purpose not in self._keys:
            seeds = self._seeds[:, 0], self._seeds[:, 1]
            ours = threefry(seeds, (torch.full_like(seeds[0], purpose), torch.zeros_like(seeds[0])))
            sites = threefry((ours[0][:, None], ours[1][:, None]), (self._hashes[:, 0], self._hashes[:, 1]))
            first, second = threefry(sites, (self._numbers, torch.zeros_like(self._numbers)))
            self._keys[purpose] = first[:, None], second[:, None]
        return self._keys[purpose]
