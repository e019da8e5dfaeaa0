"""The kind `python:`: an adapter of the user's own, made by a function of a module."""

from cosmos_eval.models.kinds import SCORES, ListedModel, ModelKind, ModelSpec, spec_error


def parse_python(text: str, kind: ModelKind, name: str) -> ModelSpec:
    """Parse `package.module:factory`."""
    module, _, factory = name.rpartition(":")
    if not (module and factory.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise spec_error(text, f"does not name a module and a function in it; write {kind.form}")
    return ModelSpec(text, kind.name, module, rest=factory)


PYTHON = ModelKind(
    "python",
    "python:package.module:factory",
    load="cosmos_eval.models.python:load_python",
    check="cosmos_eval.models.python:check_python",
    parse=parse_python,
    slug_words=lambda spec: [spec.name, spec.rest],
    listed=(
        ListedModel(
            "python:package.module:factory",
            "an importable module",
            "your own adapter",
            f"{SCORES}; segmentation with encode_patches, pairs with score_pairs",
            "any",
        ),
    ),
)
