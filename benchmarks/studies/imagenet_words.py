"""Class names and templates of ImageNet, for both sides of a comparison."""


def first_words(classes: int) -> tuple[list[str], list[str]]:
    """Return the names of the first classes, and the templates, which contain `{c}`."""
    from cosmos_eval.protocol.benchmark import load_benchmark

    prompts = load_benchmark("imagenet1k").resolve_prompts()
    assert prompts.class_names is not None
    assert prompts.templates is not None
    return list(prompts.class_names)[:classes], list(prompts.templates)
