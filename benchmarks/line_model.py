"""The model file of sweeps that are killed or damaged: a line with unknown noise."""

MODEL = """
import torch
from torch.distributions import HalfNormal, Normal

from vi_dist import Model, random_variable


def build(data):
    @random_variable
    def slope():
        return Normal(torch.zeros(2), 3.0)

    @random_variable
    def scale():
        return HalfNormal(torch.tensor(2.0))

    @random_variable
    def y():
        return Normal(slope()[0] + slope()[1] * data["x"], scale())

    return Model([slope(), scale()], {y(): data["y"]})
"""
