"""The kind `embeddings:`: embeddings that any code has stored in a folder."""

from cosmos_eval.models.kinds import SCORES, ListedModel, ModelKind

EMBEDDINGS = ModelKind(
    "embeddings",
    "embeddings:DIR",
    load="cosmos_eval.models.embeddings:load_embeddings",
    check="cosmos_eval.models.embeddings:check_embeddings",
    listed=(
        ListedModel(
            "embeddings:DIR",
            "meta.json, images.npz, texts.npz",
            "stored embeddings, made by any code",
            f"{SCORES}, of the images and texts in the folder",
            "any",
        ),
    ),
    encodes=False,
)
