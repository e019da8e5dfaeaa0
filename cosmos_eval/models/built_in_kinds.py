"""The kinds of model spec that come with the package. Imports nothing heavy."""

from pathlib import Path

from cosmos_core.released import HUB_REPOSITORY, RELEASED
from cosmos_core.short_repr import short_repr
from cosmos_eval.models.kinds import KnownModel, ModelKind, ModelSpec, refuse_spec, short_name

SELECTORS = ("teacher", "student")
ACTIVATIONS = ("gelu", "quickgelu")
QUICK = "-quickgelu"
"""What open_clip puts after an architecture's name to mean the same with QuickGELU."""
LOCAL_DIR = "local-dir"
"""open_clip's word for a folder with its configuration and weights; such a spec has it in place of an architecture."""
LARGEST_SEED = 2**63 - 1
"""That torch's generators take."""


def parse_cosmos(text: str, kind: ModelKind, name: str) -> ModelSpec:
    name, _, selector = name.rpartition("#") if "#" in name else (name, "", "teacher")
    if selector not in SELECTORS or not name:
        raise refuse_spec(text, f"selects {selector!r}; write #teacher (the default) or #student")
    seed = 0
    if name.startswith("untrained-") and "?" in name:
        name, _, option = name.partition("?")
        key, _, value = option.partition("=")
        # as many digits at most as the largest seed has: longer numbers Python refuses to read
        number = int(value) if value.isascii() and value.isdecimal() and len(value) < 20 else -1
        if key != "seed" or not 0 <= number <= LARGEST_SEED:
            only = f"the only one is ?seed=NUMBER, from 0 to {LARGEST_SEED}"
            raise refuse_spec(text, f"has the option {short_repr(option)}; {only}")
        seed = number
    return ModelSpec(text, kind.name, name, selector=selector, seed=seed)


def cosmos_words(spec: ModelSpec) -> list[str]:
    words = [short_name(spec.name)]
    words += ["student"] if spec.selector == "student" else []
    return words + ([f"seed{spec.seed}"] if spec.seed else [])


def cosmos_weights_name(spec: ModelSpec) -> str:
    """A released checkpoint is also recognised by its file name."""
    files = {released.file: name for name, released in RELEASED.items()}
    return f"cosmos:{files.get(Path(spec.name).name, spec.name)}#{spec.selector}"


def where_cosmos_weights(specs: list[ModelSpec], suite: str) -> list[str]:
    released = [RELEASED[spec.name] for spec in specs if spec.name in RELEASED]
    if not released:
        return []
    files = " ".join(one.file for one in released)
    return [
        f"COSMOS: {HUB_REPOSITORY} on the Hugging Face hub; downloaded at first use, or before with",
        f"    hf download {HUB_REPOSITORY} {files} --local-dir weights",
        f"    and then --model cosmos:weights/{released[0].file}, which is recognised by its file name",
    ]


def parse_open_clip(text: str, kind: ModelKind, name: str) -> ModelSpec:
    if name.startswith(f"{LOCAL_DIR}:"):
        folder = name.removeprefix(f"{LOCAL_DIR}:")
        if not folder.strip():
            raise refuse_spec(text, f"names no folder; write open_clip:{LOCAL_DIR}:DIR")
        return ModelSpec(text, kind.name, LOCAL_DIR, rest=folder)
    arch, slash, weights = name.partition("/")
    if not (arch and slash and weights):
        raise refuse_spec(text, f"needs an architecture and weights; write {kind.form}")
    head, mark, told = weights.rpartition("#")
    if not mark or "/" in told or "." in told:  # a path may hold the sign itself
        return ModelSpec(text, kind.name, arch, rest=weights)
    if told not in ACTIVATIONS or not head:
        raise refuse_spec(text, f"selects {told!r}; write #gelu or #quickgelu after the weights")
    if told == "gelu" and arch.endswith(QUICK):
        raise refuse_spec(text, f"asks for both activations; drop {QUICK} or #gelu")
    return ModelSpec(text, kind.name, arch, rest=head, selector=told)


def open_clip_words(spec: ModelSpec) -> list[str]:
    return [spec.name, short_name(spec.rest), *([spec.selector] if spec.selector else [])]


def where_open_clip_weights(specs: list[ModelSpec], suite: str) -> list[str]:
    copy = f"open_clip:{specs[0].name}/weights/FILE"
    return [
        "open_clip: the tag of its registry after the slash; downloaded at first use. With a copy:",
        f"    cosmos-eval run --model {copy} ..., and then",
        f"    cosmos-eval reproduce {suite} --model {specs[0].text}={copy}",
    ]


def where_hf_weights(specs: list[ModelSpec], suite: str) -> list[str]:
    return ["hf: the repository of that name on the Hugging Face hub; downloaded at first use"]


def parse_python(text: str, kind: ModelKind, name: str) -> ModelSpec:
    module, _, factory = name.rpartition(":")
    if not (module and factory.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise refuse_spec(text, f"does not name a module and a function in it; write {kind.form}")
    return ModelSpec(text, kind.name, module, rest=factory)


COSMOS = ModelKind(
    "cosmos",
    "cosmos:NAME or cosmos:PATH, with #student or #teacher",
    load="cosmos_eval.models.cosmos:load_cosmos",
    check="cosmos_eval.models.cosmos:check_cosmos",
    parse=parse_cosmos,
    words=cosmos_words,
    weights_name=cosmos_weights_name,
    where_weights=where_cosmos_weights,
    folders=True,
    listed=(
        KnownModel(
            "cosmos:toybox",
            "nothing: comes with the package",
            "small COSMOS trained on toybox, its teacher only; the default",
        ),
        KnownModel("cosmos:untrained-PRESET?seed=0", "nothing", "random weights: toybox, ViT-B-16 or ViT-B-32"),
        *(
            KnownModel(
                f"cosmos:{released.name}",
                f"{released.file} of {HUB_REPOSITORY}, fetched when first asked for",
                f"released COSMOS {released.arch}, trained on {released.data}",
            )
            for released in RELEASED.values()
        ),
        KnownModel("cosmos:PATH", "a checkpoint file of COSMOS training", "its teacher; with #student its student"),
    ),
)
OPEN_CLIP = ModelKind(
    "open_clip",
    "open_clip:ARCH/TAG or open_clip:ARCH/PATH, with #gelu or #quickgelu, or open_clip:local-dir:DIR",
    load="cosmos_eval.models.open_clip:load_open_clip",
    check="cosmos_eval.models.open_clip:check_open_clip",
    parse=parse_open_clip,
    words=open_clip_words,
    # a tag decides the activation, with or without `-quickgelu` in the architecture
    weights_name=lambda spec: f"open_clip:{spec.name.removesuffix(QUICK)}/{spec.rest}",
    where_weights=where_open_clip_weights,
    listed=(
        KnownModel(
            "open_clip:ARCH/TAG",
            "weights of open_clip's registry, fetched when first asked for",
            "a model of open_clip",
        ),
        KnownModel(
            "open_clip:ARCH/PATH",
            "a checkpoint file of open_clip training",
            "the same, local weights; with #gelu or #quickgelu where neither the file nor ARCH says which",
        ),
        KnownModel(
            "open_clip:local-dir:DIR",
            "a folder with open_clip_config.json and weights",
            "the same, as open_clip's push_to_hf_hub and its hub copies have it",
        ),
    ),
)
HF = ModelKind(
    "hf",
    "hf:HUB-ID or hf:FOLDER",
    load="cosmos_eval.models.hf:load_hf",
    check="cosmos_eval.models.hf:check_hf",
    where_weights=where_hf_weights,
    listed=(
        KnownModel("hf:HUB-ID", "a CLIP or SigLIP model, fetched when first asked for", "a model of transformers"),
        KnownModel("hf:FOLDER", "a folder written by save_pretrained", "the same, local weights"),
    ),
)
PYTHON = ModelKind(
    "python",
    "python:package.module:factory",
    load="cosmos_eval.models.python:load_python",
    check="cosmos_eval.models.python:check_python",
    parse=parse_python,
    words=lambda spec: [spec.name, spec.rest],
    listed=(KnownModel("python:package.module:factory", "an importable module", "your own adapter"),),
)
EMBEDDINGS = ModelKind(
    "embeddings",
    "embeddings:DIR",
    load="cosmos_eval.models.embeddings:load_embeddings",
    check="cosmos_eval.models.embeddings:check_embeddings",
    listed=(KnownModel("embeddings:DIR", "meta.json, images.npz, texts.npz", "vectors made elsewhere"),),
    encodes=False,
)
BUILT_IN: dict[str, ModelKind | str] = {
    "cosmos": COSMOS,
    "open_clip": OPEN_CLIP,
    "hf": HF,
    "python": PYTHON,
    "embeddings": EMBEDDINGS,
}
"""Word before the colon -> its kind, or `module:name` of it, or of a class as plug-ins have it (`spec.model_kind`). A
new kind is an adapter module and a line here."""
