# SPDX-License-Identifier: Apache-2.0
"""The diffusion framework of nvidia-physicsnemo 2.2, by its names, for scripts and files.

Its import paths lead here, as in ``from physicsnemo.diffusion.samplers import sample``. All of it
is made of what :mod:`physicsnemo.diffusion` has, and new code is shorter with that: a
:class:`~physicsnemo.diffusion.Diffusion` is a preconditioner with its scheduler,
:class:`~physicsnemo.diffusion.DenoisingLoss` all losses,
:class:`~physicsnemo.diffusion.Observed` all guidance, and
:class:`~physicsnemo.diffusion.Patches` all that works on patches.
"""

from physicsnemo.diffusion.release_2_2.conditions import ConcatConditionWrapper
from physicsnemo.diffusion.release_2_2.guidance import (
    DataConsistencyDPSGuidance,
    DPSScorePredictor,
    ModelConsistencyDPSGuidance,
    MultiDiffusionDataConsistencyDPSGuidance,
    MultiDiffusionDPSScorePredictor,
    MultiDiffusionModelConsistencyDPSGuidance,
)
from physicsnemo.diffusion.release_2_2.losses import (
    MSEDSMLoss,
    MultiDiffusionMSEDSMLoss,
    MultiDiffusionWeightedMSEDSMLoss,
    WeightedMSEDSMLoss,
)
from physicsnemo.diffusion.release_2_2.multi_diffusion import (
    MultiDiffusionModel2D,
    MultiDiffusionPredictor,
)
from physicsnemo.diffusion.release_2_2.preconditioners import (
    BaseAffinePreconditioner,
    EDMPreconditioner,
    IDDPMPreconditioner,
    VEPreconditioner,
    VPPreconditioner,
)
from physicsnemo.diffusion.release_2_2.protocols import (
    Denoiser,
    DiffusionModel,
    DPSGuidance,
    MultiDiffusionDPSGuidance,
    NoiseScheduler,
    Predictor,
    PredictorType,
    Solver,
)
from physicsnemo.diffusion.release_2_2.schedulers import (
    EDMLogUniformNoiseScheduler,
    EDMNoiseScheduler,
    IDDPMNoiseScheduler,
    LinearGaussianNoiseScheduler,
    RightHandSide,
    ScheduledNoise,
    StudentTEDMNoiseScheduler,
    VENoiseScheduler,
    VPNoiseScheduler,
)
from physicsnemo.diffusion.release_2_2.solvers import (
    SOLVERS,
    EDMStochasticEulerSolver,
    EDMStochasticHeunSolver,
    EulerSolver,
    HeunSolver,
    sample,
)

__all__ = [
    "SOLVERS",
    "BaseAffinePreconditioner",
    "ConcatConditionWrapper",
    "DPSGuidance",
    "DPSScorePredictor",
    "DataConsistencyDPSGuidance",
    "Denoiser",
    "DiffusionModel",
    "EDMLogUniformNoiseScheduler",
    "EDMNoiseScheduler",
    "EDMPreconditioner",
    "EDMStochasticEulerSolver",
    "EDMStochasticHeunSolver",
    "EulerSolver",
    "HeunSolver",
    "IDDPMNoiseScheduler",
    "IDDPMPreconditioner",
    "LinearGaussianNoiseScheduler",
    "MSEDSMLoss",
    "ModelConsistencyDPSGuidance",
    "MultiDiffusionDPSGuidance",
    "MultiDiffusionDPSScorePredictor",
    "MultiDiffusionDataConsistencyDPSGuidance",
    "MultiDiffusionMSEDSMLoss",
    "MultiDiffusionModel2D",
    "MultiDiffusionModelConsistencyDPSGuidance",
    "MultiDiffusionPredictor",
    "MultiDiffusionWeightedMSEDSMLoss",
    "NoiseScheduler",
    "Predictor",
    "PredictorType",
    "RightHandSide",
    "ScheduledNoise",
    "Solver",
    "StudentTEDMNoiseScheduler",
    "VENoiseScheduler",
    "VEPreconditioner",
    "VPNoiseScheduler",
    "VPPreconditioner",
    "WeightedMSEDSMLoss",
    "sample",
]
