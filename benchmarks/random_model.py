"""A model of open_clip with random weights, as an adapter; the peer gets the adapter's network."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cosmos_eval.models.open_clip import OpenClipModel


def image_size(model: "OpenClipModel") -> tuple[int, int]:
    """Return height and width of the images that the network takes."""
    size = model.preprocess.size
    return (size, size) if isinstance(size, int) else size


def random_model(arch: str, device: str = "cpu", config: dict[str, Any] | None = None) -> "OpenClipModel":
    """Build `arch` of open_clip's registry, or the network of `config`, a configuration as open_clip reads it."""
    import logging

    import open_clip
    import torch
    from open_clip.tokenizer import SimpleTokenizer

    from cosmos_eval.models.open_clip import OpenClipModel
    from cosmos_eval.models.preprocess import ImagePreprocess

    torch.manual_seed(0)
    config = config or open_clip.get_model_config(arch)
    assert config is not None
    logging.disable(logging.WARNING)  # open_clip warns that there are no weights
    try:
        network = open_clip.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
    finally:
        logging.disable(logging.NOTSET)
    tokenizer = SimpleTokenizer(context_length=config["text_cfg"]["context_length"])
    return OpenClipModel(
        network,
        tokenizer,
        ImagePreprocess(network.visual.image_size),
        arch=arch,
        config={**config, "quick_gelu": False},
        spec=f"open_clip:{arch}, random weights",
        source="random weights",
        activation_source="architecture",
        device=device,
    )
