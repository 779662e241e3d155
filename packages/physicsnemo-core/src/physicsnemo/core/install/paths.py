# SPDX-License-Identifier: Apache-2.0
"""The public import paths of nvidia-physicsnemo 1.2 and 2.2, and where each name is here.

This is the one table of paths, reviewed by hand: imports, class paths in files, error texts and the
page of the documentation follow from it. Modules are written as relative imports within
``physicsnemo`` are: ``.nn`` is ``physicsnemo.nn``, and ``.`` that package itself.
"""

from typing import NamedTuple

LAYERS = ".models.layers"  # of 1.2; in 2.x .nn, and .nn.module with the same submodules


class Row(NamedTuple):
    """Names that share their paths.

    Parameters
    ----------
    names
        The names, blanks between; ``Former:Present`` where a name is another one here.
    of_1, of_2
        The modules that they are imported from in 1.2 and in 2.2, blanks between; the first is the
        one to show.
    here
        The modules of this project that have them, the first is the one to use; none if the names
        are not here.
    instead
        What takes the place of names that are not here, ``module:name``.
    reason
        Why they are not here, or what is different here.
    """

    names: str
    of_1: str = ""
    of_2: str = ""
    here: str = ""
    instead: str = ""
    reason: str = ""


_N_DIMENSIONAL = "one class for grids of any number of dimensions, with other arguments"
_OTHER_ARGUMENTS = "it has other arguments here"
_COMPAT = ".diffusion.release_2_2"


def _in_new_code(names: str) -> str:
    return f"in new code, {names} of physicsnemo.diffusion"


TABLE: dict[str, tuple[Row, ...]] = {
    "Models in general": (
        Row(
            "Module",
            ". .models .models.module",
            ". .core .core.module .nn",
            ". .models .models.module .core",
        ),
        Row(
            "ModelMetaData",
            ". .models .models.meta",
            ". .core .core.meta",
            ". .models .models.meta .core",
        ),
        Row("ModelRegistry", ".registry", ".core .core.registry", ".registry .core"),
        Row(
            "Datapipe DatapipeMetaData",
            ".",
            ".core",
            reason="data are read by what you like: models take tensors",
        ),
        Row(
            "check_min_version check_module_requirements require_version",
            ".utils.version_check",
            instead="packaging.requirements:Requirement",
            reason="installers check versions: declare them in your pyproject.toml",
        ),
        Row(
            "check_version_spec require_version_spec OptionalImport get_installed_version",
            "",
            ".core.version_check",
            instead="packaging.requirements:Requirement",
            reason="installers check versions: declare them in your pyproject.toml",
        ),
        Row(
            "FunctionSpec get_physicsnemo_pkg_info",
            "",
            ".core",
            reason="no function here chooses among back ends by such a description",
        ),
        Row(
            "install",
            "",
            ".compat",
            reason="paths of other releases work without it: delete the call",
        ),
        Row(
            "Package LOCAL_CACHE",
            ".utils.filesystem",
            ".core.filesystem",
            instead="fsspec:open",
            reason="Module.from_checkpoint and load_checkpoint take URLs of any file system",
        ),
    ),
    "Training": (
        Row(
            "StaticCaptureTraining StaticCaptureEvaluateNoGrad",
            ".utils .utils.capture",
            ".utils .utils.capture",
            ".utils .utils.capture",
        ),
        Row(
            "save_checkpoint load_checkpoint get_checkpoint_dir",
            ".launch.utils .launch.utils.checkpoint",
            ".utils .utils.checkpoint",
            ".utils .utils.checkpoint",
        ),
        Row(
            "load_model_weights",
            "",
            ".utils .utils.checkpoint",
            instead="physicsnemo.utils:load_checkpoint",
            reason="a model loads its own file by Module.load, a training all of its files",
        ),
        Row(
            "PythonLogger RankZeroLoggingWrapper",
            ".launch.logging .launch.logging.console",
            ".utils .utils.logging .utils.logging.console",
            ".utils .utils.logging .utils.logging.console",
        ),
        Row(
            "LaunchLogger",
            ".launch.logging .launch.logging.launch",
            ".utils .utils.logging .utils.logging.launch",
            ".utils .utils.logging .utils.logging.launch",
        ),
        Row(
            "initialize_wandb alert is_wandb_initialized",
            ".launch.logging .launch.logging.wandb",
            ".utils.logging .utils.logging.wandb",
            reason="call wandb.init and wandb.alert",
        ),
        Row(
            "initialize_mlflow check_mlflow_logged_in",
            ".launch.logging .launch.logging.mlflow",
            ".utils.logging .utils.logging.mlflow",
            reason="call mlflow.start_run, and mlflow.set_tracking_uri before it",
        ),
        Row(
            "Profiler annotate profile",
            ".utils.profiling",
            ".utils.profiling",
            instead="torch.profiler:profile",
            reason="models and captured steps show as they are in PyTorch's own profiler",
        ),
        Row("DistributedManager", ".distributed", ".distributed", ".distributed"),
        Row(
            "fused_all_reduce",
            "",
            ".distributed",
            instead="torch.distributed:all_reduce",
            reason="PyTorch has it",
        ),
        Row(
            "ShardTensor ShardTensorSpec scatter_tensor",
            ".distributed .distributed.shard_tensor",
            ".domain_parallel .domain_parallel.shard_tensor",
            instead="physicsnemo.distributed:distribute",
            reason="fields are plain tensors, of which each rank holds some rows",
        ),
        Row(
            "TensorPromotionMode sync_module_over_mesh register_custom_ops",
            "",
            ".domain_parallel",
            instead="physicsnemo.distributed:distribute",
            reason="fields are plain tensors, of which each rank holds some rows",
        ),
    ),
    "Layers": (
        Row(
            "get_activation Stan SquarePlus CappedGELU CappedLeakyReLU",
            f"{LAYERS} {LAYERS}.activations",
            ".nn .nn.module.activations",
            ".nn.activations .nn",
        ),
        Row(
            "FCLayer Conv1dFCLayer Conv2dFCLayer Conv3dFCLayer ConvNdFCLayer ConvNdKernel1Layer "
            "WeightNormLinear WeightFactLinear",
            LAYERS,
            ".nn",
            ".nn",
        ),
        Row(
            "Mlp",
            f"{LAYERS} {LAYERS}.mlp_layers",
            ".nn .nn.module.mlp_layers",
            ".nn",
            reason="all numbers of features are given, and the activation is a GELU",
        ),
        Row(
            "DropPath",
            f"{LAYERS} {LAYERS}.drop",
            ".nn .nn.module.drop",
            ".nn",
            reason="it always scales up what it keeps",
        ),
        Row(
            "Identity",
            f"{LAYERS} {LAYERS}.activations",
            ".nn .nn.module.activations",
            "torch.nn",
        ),
        Row("Sin", "", ".nn .nn.module.activations", ".nn.activations .nn"),
        Row(
            "FourierLayer FourierFilter GaborFilter",
            f"{LAYERS} {LAYERS}.fourier_layers",
            ".nn .nn.module.fourier_layers",
            ".nn.fourier_layers",
        ),
        Row(
            "SirenLayer SirenLayerType",
            f"{LAYERS} {LAYERS}.siren_layers",
            ".nn .nn.module.siren_layers",
            ".nn.siren_layers",
        ),
        Row(
            "DGMLayer",
            f"{LAYERS} {LAYERS}.dgm_layers",
            ".nn .nn.module.dgm_layers",
            ".nn.dgm_layers",
        ),
        Row(
            "KolmogorovArnoldNetwork",
            f"{LAYERS} {LAYERS}.kan_layers",
            ".nn .nn.module.kan_layers",
            ".nn.kan_layers",
        ),
        Row(
            "SpectralConv1d SpectralConv2d SpectralConv3d SpectralConv4d",
            f"{LAYERS} {LAYERS}.spectral_layers",
            ".nn .nn.module.spectral_layers",
            ".models.fno.spectral_layers",
        ),
        Row(
            "fourier_derivatives",
            f"{LAYERS}.spectral_layers",
            ".nn.module.spectral_layers",
            ".nn.derivatives",
        ),
        Row(
            "interpolation",
            f"{LAYERS}.interpolation",
            ".nn.functional.interpolation",
            ".nn.interpolation",
        ),
        Row(
            "EarthAttention2D EarthAttention3D",
            LAYERS,
            ".nn",
            instead="physicsnemo.models.window_layers:EarthAttention",
            reason=_N_DIMENSIONAL,
        ),
        Row(
            "DownSample2D DownSample3D",
            LAYERS,
            ".nn",
            instead="physicsnemo.models.window_layers:DownSample",
            reason=_N_DIMENSIONAL,
        ),
        Row(
            "UpSample2D UpSample3D",
            LAYERS,
            ".nn",
            instead="physicsnemo.models.window_layers:UpSample",
            reason=_N_DIMENSIONAL,
        ),
        Row(
            "EncoderLayer",
            LAYERS,
            ".nn",
            instead="physicsnemo.models.window_layers:EncoderLayer",
            reason=_OTHER_ARGUMENTS,
        ),
        Row(
            "DecoderLayer",
            LAYERS,
            ".nn",
            instead="physicsnemo.models.window_layers:DecoderLayer",
            reason=_OTHER_ARGUMENTS,
        ),
        Row(
            "FuserLayer",
            LAYERS,
            ".nn",
            instead="physicsnemo.models.window_layers:FuserLayer",
            reason=_OTHER_ARGUMENTS,
        ),
        Row(
            "SwinTransformer",
            LAYERS,
            ".nn",
            instead="physicsnemo.models.window_layers:SwinTransformer",
            reason=_OTHER_ARGUMENTS,
        ),
        Row(
            "ConvBlock",
            LAYERS,
            ".nn",
            instead="physicsnemo.models.swinvrnn.swinvrnn:ConvBlock",
            reason=_OTHER_ARGUMENTS,
        ),
        Row(
            "CubeEmbedding",
            LAYERS,
            ".nn",
            instead="physicsnemo.models.window_layers:PatchEmbed",
            reason=_N_DIMENSIONAL,
        ),
        Row(
            "PatchEmbed2D:PatchEmbed PatchEmbed3D:PatchEmbed PatchRecovery2D:PatchRecovery "
            "PatchRecovery3D:PatchRecovery",
            ".models.utils",
            ".nn.module.utils",
            ".models.window_layers",
            reason="one class for grids of two and of three dimensions",
        ),
        Row(
            "window_partition window_reverse",
            ".models.utils",
            ".nn.module.utils",
            instead="physicsnemo.models.window_layers:Windows",
            reason="one class knows the windows of a grid",
        ),
        Row(
            "get_shift_window_mask",
            ".models.utils",
            ".nn.module.utils",
            instead="physicsnemo.models.window_layers.windows:window_mask",
            reason=_N_DIMENSIONAL,
        ),
        Row(
            "get_earth_position_index",
            ".models.utils",
            ".nn.module.utils",
            instead="physicsnemo.models.window_layers.earth:earth_position_index",
            reason=_N_DIMENSIONAL,
        ),
        Row(
            "crop2d crop3d get_pad2d get_pad3d",
            ".models.utils",
            ".nn.module.utils",
            instead="physicsnemo.models.window_layers.windows:centered_pads",
            reason=_N_DIMENSIONAL,
        ),
        Row(
            "trunc_normal_",
            ".models.utils",
            ".nn.module.utils",
            instead="torch.nn.init:trunc_normal_",
            reason="PyTorch has it",
        ),
        Row(
            "AFNO2DLayer AFNOMlp",
            ".models.afno.afno",
            ".nn",
            ".models.afno.afno",
        ),
        Row("PatchEmbed", ".models.afno.afno", "", ".models.afno.afno"),
        Row("AFNOPatchEmbed:PatchEmbed", "", ".nn", ".models.afno.afno"),
        Row(
            "ModAFNO2DLayer ModAFNOMlp ScaleShiftMlp",
            ".models.afno.modafno",
            ".nn",
            ".models.afno.modafno",
        ),
        Row(
            "ModEmbedNet", ".models.afno.modembed", ".models.afno.modembed", ".models.afno.modembed"
        ),
        Row("OneHotEmbedding", ".models.afno.modembed", ".nn", ".models.afno.modembed"),
        Row("SinusoidalTimestepEmbedding", "", ".nn", ".models.afno.modembed"),
        Row(
            "_ConvLayer:ConvLayer _TransposeConvLayer:TransposeConvLayer "
            "_ConvResidualBlock:ConvResidualBlock _ConvGRULayer:ConvGRULayer",
            ".models.rnn.layers",
            "",
            ".models.rnn.layers",
        ),
        Row(
            "ConvLayer TransposeConvLayer ConvResidualBlock ConvGRULayer",
            "",
            ".nn",
            ".models.rnn.layers",
        ),
        Row(
            "MeshGraphMLP MeshGraphEdgeMLPConcat MeshGraphEdgeMLPSum",
            ".models.gnn_layers.mesh_graph_mlp",
            ".nn.module.gnn_layers.mesh_graph_mlp",
            ".models.gnn_layers .models.gnn_layers.mesh_graph_mlp",
        ),
        Row(
            "MeshEdgeBlock",
            ".models.gnn_layers.mesh_edge_block",
            ".nn.module.gnn_layers.mesh_edge_block",
            ".models.gnn_layers .models.gnn_layers.mesh_edge_block",
        ),
        Row(
            "MeshNodeBlock",
            ".models.gnn_layers.mesh_node_block",
            ".nn.module.gnn_layers.mesh_node_block",
            ".models.gnn_layers .models.gnn_layers.mesh_node_block",
        ),
        Row(
            "MeshGraphEncoder",
            ".models.gnn_layers.mesh_graph_encoder",
            ".nn.module.gnn_layers.mesh_graph_encoder",
            ".models.gnn_layers .models.gnn_layers.mesh_graph_encoder",
        ),
        Row(
            "MeshGraphDecoder",
            ".models.gnn_layers.mesh_graph_decoder",
            ".nn.module.gnn_layers.mesh_graph_decoder",
            ".models.gnn_layers .models.gnn_layers.mesh_graph_decoder",
        ),
        Row(
            "BistrideGraphMessagePassing GraphMessagePassing",
            ".models.gnn_layers.bsms",
            ".nn.module.gnn_layers.bsms",
            ".models.gnn_layers.bsms",
        ),
        Row(
            "CuGraphCSC",
            ".models.gnn_layers .models.gnn_layers.graph",
            "",
            instead="physicsnemo.models.gnn_layers:Graph",
            reason="one class holds the edges of a graph, sorted by node",
        ),
    ),
    "Models": (
        Row(
            "FullyConnected",
            ".models.mlp .models.mlp.fully_connected",
            ".models.mlp .models .models.mlp.fully_connected",
            ".models.mlp .models .models.mlp.fully_connected",
        ),
        Row(
            "FNO FNO1DEncoder FNO2DEncoder FNO3DEncoder FNO4DEncoder MetaData",
            ".models.fno .models.fno.fno",
            ".models.fno .models.fno.fno",
            ".models.fno .models.fno.fno",
        ),
        Row(
            "FNO1DEncoder FNO2DEncoder FNO3DEncoder FNO4DEncoder",
            "",
            ".nn.module.fno_layers",
            ".models.fno",
        ),
        Row("AFNO ModAFNO", ".models.afno", ".models.afno", ".models.afno"),
        Row(
            "DistributedAFNO",
            ".models.afno",
            ".models.afno",
            instead="physicsnemo.distributed:shard",
            reason="every model is sharded by one function",
        ),
        Row(
            "MeshGraphNet BiStrideMeshGraphNet",
            ".models.meshgraphnet",
            ".models.meshgraphnet",
            ".models.meshgraphnet",
        ),
        Row(
            "MeshGraphKAN HybridMeshGraphNet",
            "",
            ".models.meshgraphnet",
            reason="these models came after 1.2",
        ),
        Row(
            "Mesh_Reduced",
            ".models.mesh_reduced.mesh_reduced",
            ".models.mesh_reduced.mesh_reduced",
            ".models.mesh_reduced .models.mesh_reduced.mesh_reduced",
        ),
        Row(
            "Sequence_Model",
            ".models.mesh_reduced.temporal_model",
            ".models.mesh_reduced.temporal_model",
            ".models.mesh_reduced .models.mesh_reduced.temporal_model",
        ),
        Row("Pix2Pix", ".models.pix2pix", ".models.pix2pix", ".models.pix2pix"),
        Row(
            "Pix2PixUnet",
            ".models.pix2pix",
            ".models.pix2pix",
            instead="physicsnemo.models.pix2pix:Pix2Pix",
            reason="this model is not here; Pix2Pix is the nearest",
        ),
        Row("SRResNet", ".models.srrn", ".models.srrn", ".models.srrn"),
        Row("One2ManyRNN Seq2SeqRNN", ".models.rnn", ".models.rnn", ".models.rnn"),
        Row("DLWP", ".models.dlwp", ".models.dlwp", ".models.dlwp"),
        Row(
            "HEALPixRecUNet HEALPixUNet",
            ".models.dlwp_healpix",
            ".models.dlwp_healpix",
            ".models.dlwp_healpix",
        ),
        Row("GraphCastNet", ".models.graphcast", ".models.graphcast", ".models.graphcast"),
        Row("Pangu", ".models.pangu", ".models.pangu", ".models.pangu"),
        Row("Fengwu", ".models.fengwu", ".models.fengwu", ".models.fengwu"),
        Row("SwinRNN", ".models.swinvrnn", ".models.swinvrnn", ".models.swinvrnn"),
    ),
    "Weather": (
        Row(
            "BasicConvBlock ConvGRUBlock ConvNeXtBlock DoubleConvNeXtBlock Interpolate "
            "Multi_SymmetricConvNeXtBlock SymmetricConvNeXtBlock TransposedConvUpsample "
            "UNetDecoder UNetEncoder",
            ".models.dlwp_healpix_layers",
            ".models.dlwp_healpix.layers",
            ".models.dlwp_healpix_layers .models.dlwp_healpix.layers",
        ),
        Row(
            "HEALPixFoldFaces HEALPixLayer HEALPixPadding HEALPixPaddingv2 HEALPixUnfoldFaces",
            ".models.dlwp_healpix_layers",
            ".nn .nn.module.hpx",
            ".models.dlwp_healpix_layers",
        ),
        Row("AvgPool MaxPool", ".models.dlwp_healpix_layers", "", ".models.dlwp_healpix_layers"),
        Row(
            "HEALPixAvgPool:AvgPool HEALPixMaxPool:MaxPool",
            "",
            ".nn .nn.module.hpx",
            ".models.dlwp_healpix_layers",
        ),
        Row(
            "Graph",
            ".utils.graphcast.graph",
            ".models.graphcast.utils.graph",
            instead="physicsnemo.models.graphcast:build_graphs",
            reason="a function builds all graphs of the model, once",
        ),
        Row(
            "GraphCastLossFunction CellAreaWeightedLossFunction",
            ".utils.graphcast.loss",
            ".metrics.climate.graphcast_loss",
            instead="physicsnemo.metrics.weather:LatitudeWeightedLoss",
            reason="one loss for fields on latitudes and longitudes",
        ),
        Row(
            "StaticData",
            ".utils.graphcast.data_utils",
            "",
            reason="2.x removed it; pass static fields as further channels",
        ),
    ),
    "Diffusion": (
        Row(
            "SongUNet SongUNetPosEmbd SongUNetPosLtEmbd DhariwalUNet StormCastUNet UNet",
            ".models.diffusion",
            ".models.diffusion_unets",
            ".models.diffusion",
        ),
        Row(
            "CorrDiffRegressionUNet:UNet",
            "",
            ".models.diffusion_unets .models.diffusion_unets.unet",
            ".models.diffusion.unet",
        ),
        Row(
            "AttentionOp Conv2d FourierEmbedding GroupNorm Linear PositionalEmbedding UNetBlock",
            ".models.diffusion .models.diffusion.layers",
            ".nn",
            ".models.diffusion .models.diffusion.layers",
        ),
        Row("Attention", ".models.diffusion.layers", "", ".models.diffusion.layers"),
        Row("UNetAttention:Attention", "", ".nn", ".models.diffusion.layers"),
        Row(
            "get_group_norm",
            "",
            ".nn",
            instead="physicsnemo.models.diffusion:GroupNorm",
            reason="there is one group normalization",
        ),
        Row(
            "EDMPrecond EDMPrecondSR EDMPrecondSuperResolution VEPrecond VEPrecond_dfsr "
            "VEPrecond_dfsr_cond VPPrecond iDDPMPrecond",
            ".models.diffusion .models.diffusion.preconditioning",
            ".diffusion.preconditioners .diffusion.preconditioners.legacy",
            ".models.diffusion.preconditioning .models.diffusion",
        ),
        Row(
            "tEDMPrecondSuperRes",
            ".experimental.models.diffusion.preconditioning",
            ".experimental.models.diffusion.preconditioning",
            ".models.diffusion.preconditioning",
        ),
        Row(
            "deterministic_sampler stochastic_sampler",
            ".utils.diffusion .utils.generative",
            ".diffusion.samplers",
            ".utils.diffusion",
        ),
        Row(
            "StackedRandomGenerator",
            ".utils.diffusion .utils.generative",
            ".diffusion.utils",
            ".utils.diffusion",
        ),
        Row(
            "InfiniteSampler",
            ".utils.diffusion .utils.generative",
            ".diffusion.utils",
            instead="torch.utils.data:RandomSampler",
            reason="loop over the epochs of a data loader",
        ),
        Row(
            "EasyDict time_range",
            ".utils.diffusion .utils.generative",
            "",
            reason="2.x removed these helpers, and no model needs them",
        ),
        Row(
            "diffusion_step regression_step",
            ".utils.corrdiff",
            ".diffusion.generate",
            instead="physicsnemo.utils.diffusion:deterministic_sampler",
            reason="call the regression model, then a sampler on the residual model",
        ),
        Row(
            "NetCDFWriter get_time_from_range",
            ".utils.corrdiff",
            "",
            reason="2.x removed them; xarray writes NetCDF",
        ),
        Row(
            "RegressionLoss ResidualLoss EDMLoss VELoss VPLoss",
            ".metrics.diffusion",
            ".diffusion.metrics",
            ".metrics.diffusion",
        ),
        Row(
            "tEDMResidualLoss",
            ".experimental.metrics.diffusion",
            ".experimental.metrics.diffusion",
            instead="physicsnemo.diffusion:DenoisingLoss",
            reason="the loss of a model with the schedule EDM(nu=...)",
        ),
        Row(
            "EDMLossSR RegressionLossCE VELoss_dfsr",
            ".metrics.diffusion",
            ".diffusion.metrics",
            instead="physicsnemo.metrics.diffusion:DenoisingLoss",
            reason="a subclass chooses the distribution of noise levels and their weights",
        ),
        Row(
            "EDMLossLogUniform",
            "",
            ".diffusion.metrics",
            instead="physicsnemo.diffusion:DenoisingLoss",
            reason="one loss takes the levels of the model's schedule, and weights",
        ),
        Row(
            "calculate_fid_from_inception_stats",
            ".metrics.diffusion",
            ".diffusion.metrics",
            reason="it rates photographs; torchmetrics has it",
        ),
        Row(
            "crps kcrps",
            "",
            ".diffusion.metrics",
            reason="models draw ensembles, and what scores forecasts is elsewhere: properscoring "
            "has it",
        ),
        Row(
            "BasePatching2D RandomPatching2D GridPatching2D image_batching image_fuse",
            ".utils.patching",
            ".diffusion.multi_diffusion .diffusion.multi_diffusion.patching",
            ".utils.patching",
        ),
        Row(
            "NoiseScheduler LinearGaussianNoiseScheduler",
            "",
            ".diffusion.noise_schedulers .diffusion.noise_schedulers.noise_schedulers",
            _COMPAT,
            reason=_in_new_code("Schedule"),
        ),
        Row(
            "EDMNoiseScheduler EDMLogUniformNoiseScheduler StudentTEDMNoiseScheduler",
            "",
            ".diffusion.noise_schedulers .diffusion.noise_schedulers.noise_schedulers",
            _COMPAT,
            reason=_in_new_code("EDM"),
        ),
        Row(
            "VENoiseScheduler VPNoiseScheduler IDDPMNoiseScheduler",
            "",
            ".diffusion.noise_schedulers .diffusion.noise_schedulers.noise_schedulers",
            _COMPAT,
            reason=_in_new_code("VE, VP and IDDPM"),
        ),
        Row(
            "DomainParallelNoiseScheduler",
            "",
            ".diffusion.noise_schedulers",
            instead="physicsnemo.diffusion:sample",
            reason="samples are drawn from generators that are passed",
        ),
        Row(
            "EDMPreconditioner IDDPMPreconditioner BaseAffinePreconditioner",
            "",
            ".diffusion.preconditioners .diffusion.preconditioners.preconditioners",
            f"{_COMPAT}.preconditioners {_COMPAT}",
            reason=_in_new_code("Diffusion"),
        ),
        Row(
            "VEPreconditioner VPPreconditioner",
            "",
            ".diffusion.preconditioners .diffusion.preconditioners.preconditioners",
            f"{_COMPAT}.preconditioners {_COMPAT}",
            reason=_in_new_code("Diffusion")
            + "; they take the times of their schedulers, and as there "
            'only with numerics="reference-2.2"',
        ),
        Row(
            "MSEDSMLoss WeightedMSEDSMLoss",
            "",
            ".diffusion.metrics .diffusion.metrics.losses",
            _COMPAT,
            reason=_in_new_code("DenoisingLoss"),
        ),
        Row(
            "sample SOLVERS",
            "",
            ".diffusion.samplers .diffusion.samplers.samplers",
            _COMPAT,
            reason=_in_new_code("sample"),
        ),
        Row(
            "Solver EulerSolver HeunSolver EDMStochasticEulerSolver EDMStochasticHeunSolver",
            "",
            ".diffusion.samplers .diffusion.samplers.solvers",
            _COMPAT,
            reason=_in_new_code("Euler, Heun, Churn and four more"),
        ),
        Row(
            "DPSGuidance DPSScorePredictor ModelConsistencyDPSGuidance DataConsistencyDPSGuidance",
            "",
            ".diffusion.guidance",
            _COMPAT,
            reason=_in_new_code("Observed"),
        ),
        Row(
            "MultiDiffusionModel2D MultiDiffusionPredictor",
            "",
            ".diffusion.multi_diffusion",
            f"{_COMPAT}.multi_diffusion {_COMPAT}",
            reason=_in_new_code("Diffusion and Patches"),
        ),
        Row(
            "MultiDiffusionMSEDSMLoss MultiDiffusionWeightedMSEDSMLoss "
            "MultiDiffusionDPSGuidance MultiDiffusionDPSScorePredictor "
            "MultiDiffusionModelConsistencyDPSGuidance MultiDiffusionDataConsistencyDPSGuidance",
            "",
            ".diffusion.multi_diffusion",
            _COMPAT,
            reason=_in_new_code("Patches"),
        ),
        Row(
            "ConcatConditionWrapper",
            "",
            ".diffusion.utils",
            f"{_COMPAT}.conditions {_COMPAT}",
            reason=_in_new_code("Diffusion"),
        ),
        Row(
            "DiffusionModel Predictor Denoiser PredictorType",
            "",
            ".diffusion",
            _COMPAT,
        ),
    ),
}

_LAYER_MODULES = (
    "attention_layers conv_layers dgm_layers drop fourier_layers fully_connected_layers kan_layers "
    "mlp_layers resample_layers siren_layers spectral_layers transformer_layers weight_fact "
    "weight_norm"
)

MODULES: dict[str, str] = {
    ".core.meta": ".models.meta",
    ".core.module": ".models.module",
    ".core.registry": ".registry",
    ".diffusion.metrics": ".metrics.diffusion",
    ".diffusion.multi_diffusion": ".utils.patching",
    ".diffusion.multi_diffusion.patching": ".utils.patching",
    ".diffusion.preconditioners": ".models.diffusion.preconditioning",
    ".diffusion.preconditioners.legacy": ".models.diffusion.preconditioning",
    ".diffusion.samplers": ".utils.diffusion",
    ".diffusion.utils": ".utils.diffusion",
    ".experimental.models": ".models",
    ".launch.logging": ".utils.logging",
    ".launch.utils": ".utils",
    ".models.diffusion_unets": ".models.diffusion",
    ".models.dlwp_healpix.layers": ".models.dlwp_healpix_layers",
    LAYERS: ".nn",
    f"{LAYERS}.activations": ".nn.activations",
    ".models.graphcast.utils": ".models.graphcast",
    ".nn.module": ".nn",
    ".nn.module.activations": ".nn.activations",
    ".nn.module.gnn_layers": ".models.gnn_layers",
    ".nn.module.hpx": ".models.dlwp_healpix_layers",
    ".utils.generative": ".utils.diffusion",
    ".utils.graphcast": ".models.graphcast",
    **{
        f"{package}.{module}": ".nn"
        for package in (LAYERS, ".nn.module")
        for module in _LAYER_MODULES.split()
    },
}
"""Packages and modules that are elsewhere here as a whole, with all that is in them."""
