"""What ImageNet's prompts are made of, for both sides of a comparison."""


def first_words(classes: int) -> tuple[list[str], list[str]]:
    """Names of the first classes, and the templates with `{c}` in them."""
    from cosmos_eval.protocol.benchmark import load_benchmark

    found = load_benchmark("imagenet1k").words()
    assert found.class_names is not None
    assert found.templates is not None
    return list(found.class_names)[:classes], list(found.templates)
