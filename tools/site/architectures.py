# SPDX-License-Identifier: Apache-2.0
"""The architectures that the pages on models show; :mod:`tools.site.figures` draws them."""

from tools.site.figures import Box, Figure


def _core(title: str, note: str = "", level: int = 0) -> Box:
    return Box(title, note, "core", level)


def _data(title: str, note: str = "", level: int = 0) -> Box:
    return Box(title, note, "data", level)


def _preconditioner(title: str, *inputs: tuple[int, str]) -> Figure:
    boxes = [
        _data("noisy fields", "x"),
        Box("scale", "by c_in"),
        _core("network", "F, of any kind"),
        Box("scale", "by c_out"),
        Box("add", "c_skip x"),
        _data("denoised", "D(x; sigma)"),
    ]
    return Figure(title, boxes, skips=[(0, 4, "c_skip")], inputs=inputs)


def _diffusion_unet(title: str, first: str, *inputs: tuple[int, str]) -> Figure:
    boxes = [
        _data(first, "and conditions"),
        Box("blocks", "full grid"),
        Box("blocks", "half grid", level=1),
        _core("with attention", "coarsest grid", level=2),
        Box("blocks", "half grid", level=1),
        Box("blocks", "full grid"),
        _data("fields", "out_channels"),
    ]
    skips = [(1, 5, "skip"), (2, 4, "skip")]
    return Figure(title, boxes, skips=skips, inputs=inputs)


def _healpix(title: str, decoder: str) -> Figure:
    boxes = [
        _data("state, forcing", "and constants"),
        Box("ConvNeXt blocks", "12 faces, padded"),
        Box("ConvNeXt blocks", "half grid", level=1),
        _core("ConvNeXt blocks", f"coarsest{decoder}", level=2),
        Box("ConvNeXt blocks", f"half grid{decoder}", level=1),
        Box("ConvNeXt blocks", f"full grid{decoder}"),
        _data("next state", "is the next input"),
    ]
    return Figure(title, boxes, skips=[(1, 5, "skip"), (2, 4, "skip")])


def _recurrent(title: str, first: str, last: str) -> Figure:
    boxes = [
        _data(first, "input_channels"),
        Box("residual blocks", "to a coarse grid"),
        _core("ConvGRU", "one time step"),
        Box("residual blocks", "to the full grid"),
        _data(last, "nr_tsteps"),
    ]
    return Figure(title, boxes, repeats=[(2, 3, "for each time step")])


FIGURES = {
    "mlp": Figure(
        "A fully connected network",
        [
            _data("features", "in_features"),
            _core("linear", "then activation"),
            Box("linear"),
            _data("features", "out_features"),
        ],
        repeats=[(1, 1, "× num_layers")],
    ),
    "fno": Figure(
        "A Fourier neural operator",
        [
            _data("fields", "and coordinates"),
            Box("lift", "pointwise"),
            Box("FFT", "low modes"),
            _core("multiply", "R, by mode"),
            Box("inverse FFT", "add W v, activate"),
            Box("decode", "pointwise MLP"),
            _data("fields", "out_channels"),
        ],
        repeats=[(2, 4, "× num_fno_layers")],
        skips=[(1, 4, "W v, pointwise")],
    ),
    "afno": Figure(
        "An adaptive Fourier neural operator",
        [
            _data("fields", "on inp_shape"),
            Box("patches", "and positions"),
            Box("FFT", "of tokens"),
            _core("MLP of modes", "num_blocks, shrunk"),
            Box("inverse FFT"),
            Box("MLP of tokens", "with a skip"),
            _data("fields", "from patches"),
        ],
        repeats=[(2, 5, "× depth")],
        skips=[(1, 4, "skip")],
    ),
    "modafno": Figure(
        "A modulated adaptive Fourier neural operator",
        [
            _data("fields", "on inp_shape"),
            Box("patches", "and positions"),
            _core("Fourier filter", "hidden · (1 + s) + b"),
            _core("MLP of tokens", "hidden · (1 + s) + b"),
            Box("linear head", "of each token"),
            _data("fields", "from patches"),
        ],
        repeats=[(2, 3, "× depth")],
        inputs=[(1, "number t"), (2, "number t"), (3, "number t")],
    ),
    "sfno": Figure(
        "A spherical Fourier neural operator",
        [
            _data("fields", "on the sphere"),
            Box("encode", "pointwise"),
            Box("SHT", "to degrees l"),
            _core("multiply", "κ, by degree"),
            Box("inverse SHT", "add the skip"),
            Box("MLP, then decode", "pointwise"),
            _data("fields", "on the sphere"),
        ],
        repeats=[(2, 5, "× num_layers")],
        skips=[(1, 4, "skip")],
    ),
    "meshgraphnet": Figure(
        "A network on the graph of a mesh",
        [
            _data("nodes, edges", "features"),
            Box("encode", "an MLP each"),
            _core("update edges", "from both nodes"),
            _core("update nodes", "from edges' sum"),
            Box("decode", "MLP of nodes"),
            _data("nodes", "output_dim"),
        ],
        repeats=[(2, 3, "× processor_size")],
    ),
    "bistride": Figure(
        "A network on the graph of a mesh and on coarser ones",
        [
            _data("nodes, edges", "features"),
            Box("encode, process", "as MeshGraphNet"),
            _core("messages", "half the nodes", 1),
            _core("messages", "coarsest", 2),
            _core("messages", "half the nodes", 1),
            Box("messages", "all nodes"),
            _data("nodes", "output_dim"),
        ],
        skips=[(1, 5, "skip"), (2, 4, "skip")],
    ),
    "mesh_reduced": Figure(
        "An autoencoder between a mesh and a few points",
        [
            _data("state", "on the mesh"),
            Box("MeshGraphNet"),
            Box("interpolate", "k nearest"),
            _core("pivotal points", "output_encode_dim"),
            Box("interpolate", "k nearest"),
            Box("MeshGraphNet"),
            _data("state", "on the mesh"),
        ],
    ),
    "sequence": Figure(
        "A causal transformer",
        [
            _data("context, states", "in order of time"),
            Box("encode", "an MLP each"),
            _core("attention", "to earlier states"),
            Box("MLP", "of each state"),
            Box("decode"),
            _data("next states"),
        ],
        repeats=[(2, 3, "× num_layers_decoder")],
    ),
    "pix2pix": Figure(
        "A convolutional encoder, residual blocks and a decoder",
        [
            _data("fields"),
            Box("wide convolution"),
            Box("halve the grid", "× n_downsampling", level=1),
            _core("residual blocks", "× n_blocks", 2),
            Box("double the grid", "× n_upsampling", level=1),
            Box("wide convolution"),
            _data("fields"),
        ],
    ),
    "srresnet": Figure(
        "A residual network that refines a grid",
        [
            _data("coarse fields"),
            Box("wide convolution"),
            _core("residual block", "coarse grid"),
            Box("convolution", "add the skip"),
            _core("pixel shuffle", "doubles the grid"),
            Box("wide convolution"),
            _data("fine fields"),
        ],
        repeats=[(2, 2, "× n_resid_blocks"), (4, 4, "× log₂ factor")],
        skips=[(1, 3, "skip")],
    ),
    "one2many": _recurrent("A recurrent network from one field to many", "one field", "fields"),
    "seq2seq": _recurrent("A recurrent network between sequences", "sequence", "next sequence"),
    "dlwp": Figure(
        "A U-Net on the cubed sphere",
        [
            _data("6 faces", "nr_input_channels"),
            Box("convolutions", "padded by neighbours"),
            Box("convolutions", "half grid", level=1),
            _core("convolutions", "coarsest grid", 2),
            Box("convolutions", "half grid", level=1),
            Box("convolutions", "full grid"),
            _data("6 faces", "next state"),
        ],
        skips=[(1, 5, "skip"), (2, 4, "skip")],
    ),
    "healpix": _healpix("A U-Net on the HEALPix grid", ""),
    "healpix_recurrent": _healpix("A recurrent U-Net on the HEALPix grid", ", GRU"),
    "graphcast": Figure(
        "Messages from a grid to a mesh of the sphere, on it, and back",
        [
            _data("grid", "474 fields"),
            Box("grid to mesh", "messages"),
            _core("multimesh", "edges of all levels"),
            Box("mesh to grid", "three vertices"),
            _data("grid", "227 fields"),
        ],
        repeats=[(2, 2, "× processor_layers")],
        skips=[(0, 3, "grid features")],
    ),
    "pangu": Figure(
        "A transformer in windows of levels, latitudes and longitudes",
        [
            _data("surface, levels", "and masks"),
            Box("3D patches"),
            _core("window attention", "earth-specific bias"),
            _core("window attention", "half grid", 1),
            _core("window attention", "full grid"),
            Box("join patches"),
            _data("surface, levels"),
        ],
        skips=[(2, 5, "skip")],
    ),
    "fengwu": Figure(
        "An encoder and a decoder for each modality, and a fuser",
        [
            _data("6 modalities", "surface, levels"),
            Box("encoders", "one a modality"),
            _core("fuser", "across modalities", 1),
            Box("decoders", "one a modality"),
            _data("6 modalities"),
        ],
        skips=[(1, 3, "skip of each")],
    ),
    "swin": Figure(
        "A Swin transformer at four resolutions",
        [
            _data("past states"),
            Box("Swin stages", "full grid"),
            Box("Swin stages", "half", level=1),
            _core("Swin stages", "quarter, eighth", 2),
            Box("upsample, merge", "half", level=1),
            Box("upsample, merge", "full grid"),
            _data("next state", "last + increment"),
        ],
        skips=[(1, 5, "with the last state"), (2, 4, "")],
    ),
    "unet": _diffusion_unet(
        "A U-Net of diffusion models", "noisy fields", (3, "noise level, to all blocks")
    ),
    "unet_positions": _diffusion_unet(
        "A U-Net of diffusion models that knows where a patch lies",
        "noisy fields",
        (0, "grid of the patch"),
        (3, "noise level, to all blocks"),
    ),
    "regression": _diffusion_unet(
        "A U-Net of diffusion models at noise level 0",
        "zeros, if any",
        (3, "noise level 0, to all blocks"),
    ),
    "preconditioner": _preconditioner("A network made a denoiser", (2, "noise level")),
    "preconditioner_condition": _preconditioner(
        "A network made a denoiser, with a condition", (1, "condition"), (2, "noise level")
    ),
}
