# SPDX-License-Identifier: Apache-2.0
r"""What is said of :math:`x = \alpha x_0 + \sigma n`: the data, the noise or the score."""

from torch import Tensor


def x0_of_epsilon(epsilon: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return the data of noise."""
    return (x - sigma * epsilon) / alpha


def epsilon_of_x0(x0: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return the noise of data."""
    return (x - alpha * x0) / sigma


def score_of_epsilon(epsilon: Tensor, sigma: Tensor) -> Tensor:
    """Return the gradient of the log density where the mean of the noise is this."""
    return -epsilon / sigma


def epsilon_of_score(score: Tensor, sigma: Tensor) -> Tensor:
    """Return the mean of the noise where the gradient of the log density is this."""
    return -sigma * score
