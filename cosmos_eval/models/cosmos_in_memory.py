"""A network of a class that inherits from COSMOS, as the caller of `evaluate` holds it."""

from functools import cached_property

from cosmos_eval.models.cosmos import CosmosModel
from cosmos_eval.models.digest import model_digest, tokenizer_identity
from cosmos_eval.models.in_memory import identify_architecture


class ChangedCosmosModel(CosmosModel):
    """As `CosmosModel`, with the code of its class in the digest: it may compute something else of the same weights."""

    @cached_property
    def digest(self) -> str:
        return model_digest(
            self.core.state_dict(),
            {**identify_architecture(self.core), "kind": "cosmos", "config": self.core.config},
            {"identity": tokenizer_identity(self.tokenize)},
            self.preprocess.describe(),
        )
