"""The engine: features of images and texts, and their scores. It is the only code that calls a model.

See `cosmos_eval.engine` for the path of an image through it.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.memory_errors import report_out_of_memory
from cosmos_core.short_repr import short_repr
from cosmos_eval.cache.cached_features import CachedFeatures, EncodedBatches
from cosmos_eval.cache.feature_cache import FeatureCache, ModelCache, model_cache_info
from cosmos_eval.cache.item_names import write_names
from cosmos_eval.datasets.decoders import PIL, Decoder, check_decoder
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.resized import ResizedImages, read_resized, recipe_digest
from cosmos_eval.engine.batch_size import DEFAULT_BATCH_SIZE, auto_batch_size, check_batch_size
from cosmos_eval.engine.batch_splitter import BatchSplitter
from cosmos_eval.engine.decoder_comparison import measure_decoder_differences
from cosmos_eval.engine.dense import DenseFeatures
from cosmos_eval.engine.distinct_items import encode_distinct_images, encode_distinct_texts
from cosmos_eval.engine.image_loading import ReadTarget
from cosmos_eval.engine.image_tower import ImageTower, decoder_for
from cosmos_eval.engine.kept_casts import keeps_casts, kept_casts
from cosmos_eval.engine.layer_progress import LayerProgress
from cosmos_eval.engine.precision import full_precision, resolve_precision, tower_precision
from cosmos_eval.engine.rank_group import RankGroup, Work
from cosmos_eval.engine.scores import Scores, build_scores, require_single_vectors
from cosmos_eval.engine.truncation import TextCounts
from cosmos_eval.engine.unit_features import (
    FeatureCheck,
    image_name,
    normalise_and_check_later,
    normalise_features,
    require_items,
)
from cosmos_eval.engine.window_features import window_features
from cosmos_eval.engine.worker_count import AUTO, Workers
from cosmos_eval.models.abilities import has_features, has_similarity, is_pair_scorer, told_language
from cosmos_eval.profiling import phase
from cosmos_eval.progress import Reporter, Silent
from cosmos_eval.protocol.feature_transforms import NONE as NO_TRANSFORMS
from cosmos_eval.protocol.feature_transforms import FeatureTransforms


class Engine:
    """Features and scores of one model.

    A model with `read_image_embeddings(images)` and `read_text_embeddings(texts)` has precomputed features
    (`embeddings:`), which the engine only normalises: precision, decoder, workers and the feature cache do not apply to
    them. A model that only scores pairs (`cosmos_eval.models.base.PairScorer`) has no features at all; tasks call
    `score`.

    Args:
        model: an adapter (`cosmos_eval.models.base.Model`). `self.device` is its device.
        batch_size: images in a batch; a batch of texts holds four times as many texts, or as many tokens as these.
            `auto` finds a size on the device (`cosmos_eval.engine.batch_size`).
        workers: processes that decode and preprocess images; 0 does it in this process; `auto` chooses a number for
            each loader (`cosmos_eval.engine.worker_count`).
        precision: auto, fp32, bf16 or fp16. `self.precision` is the one that is used on the model's device, with what
            else changes the numbers (`cosmos_eval.engine.precision`).
        reporter: shows progress.
        cache: the feature cache; None stores nothing on disk. Not used for a model without a digest.
        ranks: the ranks that share the encoding, each with an engine of its own; default: this process alone.
        compiled: compile the image tower by torch.compile.
        decoder: decodes JPEG files: pil, or another of `cosmos_eval.datasets.decoders`.
        resized: a folder of images that were resized before (`cosmos_eval.datasets.resized`); other images are decoded.

    Raises:
        RequestError: an argument is not valid, or does not fit the model.
    """

    benchmark: str = ""
    """Name of the benchmark that is evaluated now; the feature cache stores the names of items with it."""

    def __init__(
        self,
        model: Any,
        batch_size: int | str = 64,
        workers: int | str = 0,
        precision: str = "auto",
        reporter: Reporter | None = None,
        cache: FeatureCache | None = None,
        ranks: RankGroup | None = None,
        compiled: bool = False,
        decoder: str = PIL,
        resized: Path | None = None,
    ) -> None:
        checked_batch_size = check_batch_size(batch_size)
        if workers != AUTO and not (isinstance(workers, Integral) and workers >= 0):
            raise RequestError(f"workers must be a whole number of at least 0, or auto; got {short_repr(workers)}")
        self.model = model
        self.device = torch.device(model.device)
        resolved_precision = resolve_precision(precision, self.device)
        self.is_precomputed = is_precomputed = hasattr(model, "read_image_embeddings")
        """Whether the model returns precomputed features instead of encoding."""
        self.has_features = has_features(model) or not is_pair_scorer(model)
        """Whether the model has features; one that only scores pairs has none."""
        self.compiled = compiled and not is_precomputed and self.has_features
        # Precomputed features do not depend on the precision that is asked for. Their results all record fp32, or equal
        # results would count as different measurements.
        self.precision = (
            "fp32" if is_precomputed else full_precision(resolved_precision, self.compiled, check_decoder(decoder))
        )
        self.decoder = decoder_for(PIL if is_precomputed else decoder, getattr(model, "preprocess", None))
        self.resized = None if resized is None or is_precomputed else self._read_resized(resized)
        self.decoder_differences: dict[str, Any] | None = None
        """Differences between Pillow and another decoder, on the first images of the benchmark."""
        self.reporter = reporter or Silent()
        self.workers = Workers.for_this_process(workers, self.reporter, self.device.type)
        self.batch_size = checked_batch_size if isinstance(checked_batch_size, int) else self._auto_batch_size()
        self.ranks = ranks or RankGroup(local_state=weakref.proxy(self))
        # Not on devices that compute asynchronously: a hook would run before its layer is computed. Not with
        # torch.compile: new hooks would compile the tower again.
        self.layer_progress = LayerProgress(
            model, enabled=self.device.type == "cpu" and not compiled and not is_precomputed
        )
        self.batch_splitter = BatchSplitter(self.batch_size, self.device, self.reporter, self.layer_progress)
        self.encoded = {"images": 0, "texts": 0} | ({"pairs": 0} if is_pair_scorer(model) else {})
        """How many images, texts and pairs of the benchmark passed the model; windows are not counted."""
        self.text_counts = TextCounts()
        """How many texts of the benchmark were read, and how many of them were truncated."""
        self.transforms = NO_TRANSFORMS
        """What is done to the embeddings of the benchmark after the fact."""
        self.model_cache: ModelCache | None = None
        """The part of the feature cache for this model."""
        if cache is not None and model.digest and not is_precomputed:
            self.model_cache = cache.for_model(model_cache_info(model, self.precision, self.device), self.reporter)
        # Features by key: from memory, from the cache on disk, or encoded.
        self.cached_images = CachedFeatures("images", self.model_cache, self.device)
        self.cached_texts = CachedFeatures("texts", self.model_cache, self.device)
        self.cached_pair_scores = CachedFeatures("pairs", self.model_cache)

    def start_benchmark(self, benchmark: str, transforms: FeatureTransforms = NO_TRANSFORMS) -> None:
        """Start a benchmark: reset everything that is counted for each benchmark.

        Args:
            transforms: what `score` does to embeddings. Features in the cache, in memory, and those that
                `image_features` and `text_features` return, stay as the model made them.

        Raises:
            RequestError: embeddings are to be transformed, and the model does not score by their dot product.
        """
        self._require_transformable(transforms)
        self.benchmark, self.transforms = benchmark, transforms
        self.encoded = dict.fromkeys(self.encoded, 0)
        self.decoder_differences = None
        self.text_counts = TextCounts()
        self.workers.start_benchmark()

    def _require_transformable(self, transforms: FeatureTransforms) -> None:
        reason = ""
        if is_pair_scorer(self.model):
            reason = "scores pairs of an image and a text"
        elif has_similarity(self.model):
            reason = "scores by a similarity of its own"
        if transforms and reason:
            raise RequestError(
                f"{self.model.spec} {reason}, not by the dot product of two embeddings: there is nothing to transform; "
                f"run it without {transforms.arguments}"
            )

    def use_batch_size(self, size: int) -> None:
        """Set another batch size. Ranks that found different sizes by `auto` agree on one this way."""
        self.batch_size = size
        self.batch_splitter = BatchSplitter(size, self.device, self.reporter, self.layer_progress)

    @cached_property
    def tower(self) -> ImageTower:
        """The image tower of the model."""
        engine = weakref.proxy(self)  # a cycle would keep the network alive after the engine
        return ImageTower(self.model, self.compiled, lambda: engine.batch_splitter.sizes["images"])

    def _read_resized(self, folder: Path) -> ResizedImages:
        if self.decoder.name != PIL:
            raise RequestError(
                f"--resized reads images that Pillow decoded; give it without --decoder {self.decoder.name}"
            )
        resized = read_resized(folder)
        geometry = getattr(self.model.preprocess, "geometry", None)
        resized.require_recipe(geometry() if callable(geometry) else None, self.model.spec)
        return resized

    def _auto_batch_size(self) -> int:
        """Return the batch size for `auto`. It is measured on the image tower; models without one get the default."""
        if self.is_precomputed or not self.has_features:
            return DEFAULT_BATCH_SIZE
        with kept_casts(self.model, self.keeps_casts), tower_precision(self.precision, self.device):
            return auto_batch_size(ImageTower(self.model), self.reporter)

    def image_features(self, images: Sequence[ImageSource]) -> Tensor:
        """Return the features (N, D) float32 of N images, of unit length, on the model's device.

        A model that keeps tokens, and has `similarity` to score them, gives (N, L, D): each token has unit length, and
        zeros stay zero. Images with equal content share their features.

        Raises:
            RequestError: the model has no features; there are no images; an image cannot be read or decoded; an
                embedding is zero or not finite (the message names the first image); an image does not fit in memory.
        """
        require_items(images, "images")
        self._require_features()
        with phase("rows"):
            return encode_distinct_images(self, images)

    def _require_features(self) -> None:
        if not self.has_features:
            raise RequestError(
                f"{self.model.spec} scores pairs of an image and a text and has no embeddings, which are needed here; "
                "use a model with encode_image and encode_text"
            )

    def text_features(self, texts: Sequence[str], language: str | None = None) -> Tensor:
        """Return the features (M, D) or (M, L, D) float32 of M texts, of unit length, on the model's device.

        Texts that the model's tokenizer turns into the same tokens share their features.

        Args:
            language: code of the language of the texts, as the dataset writes it. Only a model that has `use_language`
                is told it; for any other it changes nothing.

        Raises:
            RequestError: as `image_features`; the message names the bad text that was encoded first.
        """
        require_items(texts, "texts")
        self._require_features()
        with phase("rows"):
            return encode_distinct_texts(self, texts, told_language(self.model, language))

    def score(
        self,
        images: Sequence[ImageSource],
        texts: Sequence[str],
        rerank: int | None = None,
        language: str | None = None,
    ) -> Scores:
        """Return the scores of N images and M texts, to be read in blocks (`cosmos_eval.engine.scores`).

        A score is what the model's `score_pairs` returns if it has that, else what its `similarity` returns if it has
        that, else the dot product of unit embeddings, after the transforms of the benchmark.

        Args:
            rerank: for a model that has both features and `score_pairs`: the number of best candidates of each query,
                by features, that are scored as pairs. The other candidates stay below them, in their order. None scores
                all pairs.
            language: as for `text_features`.

        Raises:
            RequestError: as `image_features`; a score is not finite (the message names the first pair); too many pairs.
        """
        require_items(images, "images")
        require_items(texts, "texts")
        return build_scores(self, images, texts, rerank, language)

    def score_pairs(self, images: Sequence[ImageSource], texts: Sequence[str], pairs: Tensor) -> Tensor:
        """Return the scores (P,) float32, on the CPU, of pairs (P, 2) int64 of an image index and a text index."""
        return self.score(images, texts).of_pairs(pairs)

    def window_features(
        self,
        images: Sequence[ImageSource],
        settings: Mapping[str, Any],
        keep_pixels: bool = False,
        reporter: Reporter | None = None,
        read_target: ReadTarget | None = None,
    ) -> Iterator[DenseFeatures]:
        """Yield the patch features of the sliding windows of each image, in order (`cosmos_eval.engine.dense`).

        Windows of several images share batches of `batch_size`. Images are decoded, resized and encoded while the
        results are read, so memory holds a few batches, for a dataset of any size. Nothing is cached.

        Args:
            images: of any sizes. Equal images are encoded each time.
            settings: `benchmark.settings` of a segmentation task.
            keep_pixels: whether the results hold the resized, normalised image.
            reporter: shows progress, instead of the engine's own.
            read_target: reads what belongs to an image, such as its mask, in the processes that decode images.

        Raises:
            RequestError: there are no images; the model has no patch features; an image cannot be read or decoded; a
                patch's embedding is zero or not finite (the message names the image); a window does not fit in memory.
        """
        return window_features(self, images, settings, keep_pixels, reporter, read_target)

    @property
    def keeps_casts(self) -> bool:
        """Whether autocast casts the weights once for all batches (`cosmos_eval.engine.kept_casts`)."""
        return not self.is_precomputed and keeps_casts(self.precision, self.device, self.compiled)

    def precision_of(self, windows: bool) -> str:
        """Return the precision as results record it; windows do not pass the compiled tower."""
        return self.precision.replace("+compile", "") if windows else self.precision

    def encoding_record(self, windows: bool) -> dict[str, Any]:
        """Return, for the record, what determined the features of images or windows besides precision and versions."""
        record: dict[str, Any] = {}
        if not windows:
            if self.device.type != "cpu" and not self.is_precomputed:
                record["memory_format"] = "channels_last"
            if self.compiled:
                record["compiled"] = "image tower"
            if self.resized is not None:
                record["resized"] = recipe_digest(self.resized.recipe)
        if self.keeps_casts:
            record["weights"] = f"cast to {self.precision.partition('+')[0]} once"
        if self.decoder.name != PIL:
            record["decoder"] = {"name": self.decoder.name, "drift": self.decoder_differences}
        return record

    def compare_decoders(self, images: Sequence[ImageSource], decoder: Decoder) -> None:
        """Measure how a decoder other than Pillow changes the first images of a benchmark, once for each benchmark."""
        if decoder.name != PIL and self.decoder_differences is None:
            with phase("drift"):
                encode = self._encode_unplanned if self.has_features else None
                self.decoder_differences = measure_decoder_differences(
                    images, decoder, self.tower.worker_preprocess, encode
                )

    def _encode_unplanned(self, batch: Tensor, images: Sequence[ImageSource]) -> Tensor:
        """Encode a batch from workers on this rank; its features are neither cached nor counted."""
        with tower_precision(self.precision, self.device):
            return normalise_features(self.batch_splitter.encode("images", batch, self.tower), images, image_name)

    def precomputed_features(
        self, read_features: Callable[[Any], Tensor], items: Sequence[Any], name: Callable[[Any], str], unit: str
    ) -> Tensor:
        activity = f"moving the features of {len(items):,} {unit} to {self.device}; give --device cpu or more memory"
        with report_out_of_memory(activity):
            features, check = self.normalise_and_check_later(read_features(items).to(self.device), items, name)
            check.require_valid()
            return features

    def normalise_and_check_later(
        self, features: Tensor, items: Sequence[Any], name: Callable[[Any], str]
    ) -> tuple[Tensor, FeatureCheck]:
        """Normalise features to unit length (`cosmos_eval.engine.unit_features.normalise_and_check_later`).

        Raises:
            RequestError: there are several vectors for each item, and the model has no `similarity` to score them.
        """
        if features.ndim > 2 and not has_similarity(self.model):
            require_single_vectors(self.model, features, "an image" if name is image_name else "a text")
        return normalise_and_check_later(features, items, name)

    def encode_on_ranks(
        self, work: Work, common: Any, batches: Iterable[Any], sizes: Sequence[int], unit: str, description: str
    ) -> Iterator[tuple[int, Tensor]]:
        """Divide batches among the ranks, show progress, and count what passed the model.

        Args:
            work, common, batches: as for `RankGroup.distribute`.
            sizes: the number of items in each batch.
            unit: a key of `self.encoded`.
            description: of the progress line.

        Yields:
            The number of a batch and its result, in the order of batches.
        """
        with self.reporter.task(description, sum(sizes), unit) as advance, self.layer_progress.shown(advance):
            for number, result in self.ranks.distribute(work, common, batches):
                self.encoded[unit] += sizes[number]
                yield number, result
                self.layer_progress.finish(sizes[number])

    def encode_planned(
        self, work: Work, common: Any, batches: Iterable[Any], plan: Sequence[Sequence[int]], unit: str
    ) -> EncodedBatches:
        """Encode batches on all ranks; `plan` has the positions of the members of each batch."""
        sizes = [len(members) for members in plan]
        for number, features in self.encode_on_ranks(work, common, batches, sizes, unit, f"encoding {unit}"):
            yield plan[number], features.to(self.device)

    def store_names(self, kind: str, names: Sequence[str], keys: Sequence[str]) -> None:
        """Store the names of items for `cosmos-eval cache export`."""
        if self.model_cache is not None:
            with phase("store"):
                write_names(self.model_cache, kind, self.benchmark, names, keys)
