"""Features of images and texts, and scores of both: the one place where a model is called."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.cache.known_features import Batches, KnownRows
from cosmos_eval.cache.names import write_names
from cosmos_eval.cache.store import Space, Store, about_rows
from cosmos_eval.datasets.base import ImageSource
from cosmos_eval.datasets.decoders import PIL, Decoder, check_decoder
from cosmos_eval.datasets.resized import Resized, digest_of, read_resized
from cosmos_eval.engine.batch_parts import Parts
from cosmos_eval.engine.batch_size import DEFAULT, auto_batch_size, check_batch_size
from cosmos_eval.engine.dense import Dense
from cosmos_eval.engine.drift import decoder_drift
from cosmos_eval.engine.encoding import encode_images, encode_texts
from cosmos_eval.engine.images import digests
from cosmos_eval.engine.pass_progress import PassProgress
from cosmos_eval.engine.precision import full_precision, resolve_precision, tower_precision
from cosmos_eval.engine.ranks import Crew, Work
from cosmos_eval.engine.scores import Scores, refuse_tokens, scores_of
from cosmos_eval.engine.texts import TextInputs, in_order, read_texts
from cosmos_eval.engine.tower import ImageTower, decoder_for
from cosmos_eval.engine.truncation import TextsRead, cut_alike, truncated_texts
from cosmos_eval.engine.unit_features import distinct_keys, image_name, memory_for, refuse_none, text_name, unit_rows
from cosmos_eval.engine.window_features import window_features
from cosmos_eval.models.base import encodes, has_similarity, scores_pairs
from cosmos_eval.profiling import phase
from cosmos_eval.progress import Reporter, Silent


class Features(Protocol):
    """What a task asks for: scores, or features by item, in the order given, of unit length, float32."""

    def image_features(self, images: Sequence[ImageSource]) -> Tensor: ...

    def text_features(self, texts: Sequence[str]) -> Tensor: ...

    def score(self, images: Sequence[ImageSource], texts: Sequence[str], rerank: int | None = None) -> Scores: ...

    def score_pairs(self, images: Sequence[ImageSource], texts: Sequence[str], pairs: Tensor) -> Tensor: ...


class Engine:
    """Features of one model.

    Equal inputs (images by content, texts by their string) are encoded once and share one row, so that ties which are
    real stay exact; across calls, too, so that benchmarks which share them encode them once, and across runs where
    there is a store: see `cosmos_eval.cache.known_features`, which also says why a run that was killed ends alike.
    Batches are consecutive distinct inputs that are not known yet, in order of first appearance; of texts, where a
    tower reads no further than the end of each, those of like length (`cosmos_eval.engine.texts`). Their members depend
    on the order of the datasets, the lengths of texts and `batch_size` only, never on `workers`. A batch that memory
    does not hold passes the tower in parts (`cosmos_eval.engine.batch_parts`).

    A model that has `image_rows(images)` and `text_rows(texts)` gives its rows itself (vectors made elsewhere). One
    that only scores pairs (`cosmos_eval.models.base.PairScorer`) has no features; tasks ask for `score`.
    `self.device` is the model's device, which may be another than was asked for.

    Args:
        model: an adapter (cosmos_eval.models.base.Model).
        batch_size: images of a batch; a batch of texts holds four times as many, or as many tokens as those. `auto`
            is found on the device (`cosmos_eval.engine.batch_size`).
        workers: processes that decode and preprocess; 0 does it in this one.
        precision: auto, fp32, bf16 or fp16; `self.precision` holds what it came to on the model's own device: fp32 for
            vectors made elsewhere, whatever was asked for.
        reporter: where progress goes.
        store: keeps rows for later runs; never those of a model without a digest, nor vectors made elsewhere.
        crew: the processes that share the work, each with an engine of its own that `Crew.open` left there.
        compiled: whether torch.compile makes the image tower.
        decoder: of JPEG files: pil, or another of `cosmos_eval.datasets.decoders`, which is part of the precision.
        resized: a folder of images that were resized before (`cosmos_eval.datasets.resized`); others are decoded.
    """

    benchmark: str = ""
    """Who asks: a store keeps by it what items are called."""

    def __init__(
        self,
        model: Any,
        batch_size: int | str = 64,
        workers: int = 0,
        precision: str = "auto",
        reporter: Reporter | None = None,
        store: Store | None = None,
        crew: Crew | None = None,
        compiled: bool = False,
        decoder: str = PIL,
        resized: Path | None = None,
    ) -> None:
        asked = check_batch_size(batch_size)
        if workers < 0:
            raise RequestError(f"batch size must be at least 1, or auto, and workers at least 0; got {workers} workers")
        self.model = model
        self.device = torch.device(model.device)
        self.workers = workers
        resolved = resolve_precision(precision, self.device)
        # Stored vectors pass no tower: two results of one folder must not differ by a word that changes nothing.
        self.given = given = hasattr(model, "image_rows")
        """Whether the model hands out rows that were made elsewhere."""
        self.has_features = encodes(model) or not scores_pairs(model)
        """Whether the model has features; one that only scores pairs has none."""
        self.compiled = compiled and not given and self.has_features
        self.precision = "fp32" if given else full_precision(resolved, self.compiled, check_decoder(decoder))
        self.decoder = decoder_for(PIL if given else decoder, getattr(model, "preprocess", None))
        self.resized = None if resized is None or given else self._read_resized(resized)
        self.drift: dict[str, Any] | None = None
        """What a decoder other than Pillow changed in the first images of the benchmark."""
        self.reporter = reporter or Silent()
        self.batch_size = asked if isinstance(asked, int) else self._auto_batch_size()
        self.crew = crew or Crew(here=self)
        # elsewhere a hook runs long before its layer, and a compiled tower would be made again because of it
        self.pass_progress = PassProgress(model, enabled=self.device.type == "cpu" and not compiled and not given)
        self.parts = Parts(self.batch_size, self.device, self.reporter, self.pass_progress)
        self.encoded = {"images": 0, "texts": 0} | ({"pairs": 0} if scores_pairs(model) else {})
        """How many passed the model; windows of images do not count."""
        self.texts_read = TextsRead()
        """What the model read of the texts of the benchmark."""
        self.space: Space | None = None
        if store is not None and model.digest and not given:
            self.space = store.space(about_rows(model, self.precision, self.device), self.reporter)
        self.images = KnownRows("images", self.space, self.device)
        self.texts = KnownRows("texts", self.space, self.device)
        self.pairs = KnownRows("pairs", self.space)

    def begin(self, benchmark: str) -> None:
        """Count anew what is encoded, cut and decoded otherwise: `benchmark` asks from here on."""
        self.benchmark = benchmark
        self.encoded = dict.fromkeys(self.encoded, 0)
        self.drift = None
        self.texts_read = TextsRead()

    def use_batch_size(self, size: int) -> None:
        """Another batch size than the one found here, as ranks must have one in common."""
        self.batch_size = size
        self.parts = Parts(size, self.device, self.reporter, self.pass_progress)

    @cached_property
    def tower(self) -> ImageTower:
        """Where images are encoded."""
        return ImageTower(self.model, self.compiled, lambda: self.parts.sizes["images"])

    def _read_resized(self, folder: Path) -> Resized:
        if self.decoder.name != PIL:
            raise RequestError(f"--resized holds what Pillow decoded; leave --decoder {self.decoder.name} out")
        found = read_resized(folder)
        geometry = getattr(self.model.preprocess, "geometry", None)
        found.refuse_other(geometry() if callable(geometry) else None, self.model.spec)
        return found

    def _auto_batch_size(self) -> int:
        """What `auto` comes to; vectors that are given need none, and it is looked for with image features only."""
        if self.given or not self.has_features:
            return DEFAULT
        with tower_precision(self.precision, self.device):
            return auto_batch_size(ImageTower(self.model), self.reporter)

    def image_features(self, images: Sequence[ImageSource]) -> Tensor:
        """(N, D) float32 rows of unit length on the model's device, row i for image i; (N, L, D) of a model that
        keeps tokens and says by `similarity` how they are scored, each token of unit length (zeros stay zero).

        Raises:
            RequestError: a model without features, no images, one that cannot be read or decoded, an embedding that
                is zero or not finite (names the first), or memory that does not hold one.
        """
        refuse_none(images, "images")
        self._require_features()
        with phase("rows"):
            return self._image_features(images)

    def _require_features(self) -> None:
        if not self.has_features:
            raise RequestError(
                f"{self.model.spec} scores pairs of an image and a text and has no embeddings, which are needed here; "
                "take a model with encode_image and encode_text"
            )

    def _image_features(self, images: Sequence[ImageSource]) -> Tensor:
        if self.given:
            return self._given(self.model.image_rows, images, image_name, "images")
        self.compare_decoders(images, self.decoder)
        with phase("reading"):
            keys = digests(images, self.reporter)
        places, index = distinct_keys(keys)
        distinct = [images[i] for i in places]
        self._name("images", [image.key for image in images], keys)
        if self.resized is not None:
            absent = sum(key not in self.resized for key in keys)
            if absent:
                where = f"not in {self.resized.folder}: decoded here"
                self.reporter.note(f"{absent:,} of {len(keys):,} images are {where}")
        rows = self.images.complete(
            [keys[i] for i in places], lambda new: self._encode_images([distinct[i] for i in new])
        )
        return rows[index.to(rows.device)]

    def _encode_images(self, images: list[ImageSource]) -> Batches:
        plan = in_order(len(images), self.batch_size)
        batches = ([images[i] for i in members] for members in plan)
        return self._encode(encode_images, None, batches, plan, "images")

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """(M, D) or (M, L, D) float32 rows of unit length on the model's device, row j for text j.

        Raises:
            RequestError: a model without features, no texts, an embedding that is zero or not finite (names the first
                to be encoded), or memory that does not hold one.
        """
        refuse_none(texts, "texts")
        self._require_features()
        with phase("rows"):
            return self._text_features(texts)

    def _text_features(self, texts: Sequence[str]) -> Tensor:
        if hasattr(self.model, "text_rows"):
            self.texts_read.add(None, torch.arange(len(texts)), None, alike=False)
            return self._given(self.model.text_rows, texts, text_name, "texts")
        strings, of_string = distinct_keys(texts)
        distinct = [texts[j] for j in strings]
        with phase("tokens"):
            read = read_texts(self.model, distinct, self.batch_size, self.reporter)
            self.count_texts(distinct, of_string, read)
        self._name("texts", distinct, read.keys)
        places, index = distinct_keys(read.keys)

        def encode(new: list[int]) -> Batches:
            some = [places[i] for i in new]
            plan = read.batches(some)
            own = ([some[i] for i in members] for members in plan)
            batches = (([distinct[j] for j in one], read.inputs(one)) for one in own)
            return self._encode(encode_texts, read.lengths is not None, batches, plan, "texts")

        rows = self.texts.complete([read.keys[i] for i in places], encode)
        return rows[index[of_string].to(rows.device)]

    def score(self, images: Sequence[ImageSource], texts: Sequence[str], rerank: int | None = None) -> Scores:
        """(N, M) scores of images and texts, in blocks over either (`cosmos_eval.engine.scores`).

        The dot product of unit embeddings; where the model has `similarity`, that; where it has `score_pairs`, that.

        Args:
            rerank: of a model that has both features and `score_pairs`: how many of the best candidates of each
                query, by features, are scored again as pairs; the others stay below them, in their order. None
                scores all pairs.

        Raises:
            RequestError: as `image_features` and `text_features`; a score that is not finite (names the first pair);
                more pairs than a model is asked to score one by one.
        """
        refuse_none(images, "images")
        refuse_none(texts, "texts")
        return scores_of(self, images, texts, rerank)

    def score_pairs(self, images: Sequence[ImageSource], texts: Sequence[str], pairs: Tensor) -> Tensor:
        """(P,) float32 scores on the CPU of (P, 2) int64 pairs, each of an image and a text by their places; each
        distinct pair is scored once, so that equal inputs tie."""
        return self.score(images, texts).of_pairs(pairs)

    def count_texts(self, texts: Sequence[str], of_text: Tensor, read: TextInputs | None = None) -> None:
        """Note how many of some distinct texts are cut by the model; `read` is None where they are part of a pair."""
        context = (read.context_length if read else 0) or int(getattr(self.model, "context_length", None) or 0)
        cut = truncated_texts(self.model, texts, read.lengths if read else None, context)
        alike = cut_alike(self.model, texts, read.keys if read else texts, cut)
        self.texts_read.add(cut, of_text, context or None, alike)

    def window_features(
        self,
        images: Sequence[ImageSource],
        settings: Mapping[str, Any],
        keep_pixels: bool = False,
        reporter: Reporter | None = None,
    ) -> Iterator[Dense]:
        """Patch features of the sliding windows of each image, in the order given (`cosmos_eval.engine.dense`).

        Windows of several images share batches of `batch_size`. Images are decoded, resized and encoded as
        the results are taken, so that memory holds a few batches whatever the dataset's size.

        Args:
            images: of any sizes; each is encoded, also where two are equal.
            settings: `benchmark.settings` of a segmentation task.
            keep_pixels: whether results hold the resized, normalised image, too.
            reporter: where progress goes, instead of the engine's own.

        Raises:
            RequestError: no images, a model without patch features, an image that cannot be read or decoded, a patch
                whose embedding is zero or not finite (names the image), or memory that does not hold one window.
        """
        return window_features(self, images, settings, keep_pixels, reporter)

    def precision_of(self, windows: bool) -> str:
        """How a result calls the precision, of whole images or of windows, which pass a tower that is not compiled."""
        return self.precision.replace("+compile", "") if windows else self.precision

    def means(self, windows: bool) -> dict[str, Any]:
        """What else than precision and versions made the rows of images or windows, for the record."""
        found: dict[str, Any] = {}
        if not windows:
            if self.device.type != "cpu" and not self.given:
                found["memory_format"] = "channels_last"
            if self.compiled:
                found["compiled"] = "image tower"
            if self.resized is not None:
                found["resized"] = digest_of(self.resized.made)
        if self.decoder.name != PIL:
            found["decoder"] = {"name": self.decoder.name, "drift": self.drift}
        return found

    def compare_decoders(self, images: Sequence[ImageSource], decoder: Decoder) -> None:
        if decoder.name != PIL and self.drift is None:
            with phase("drift"):
                encode = self._unit_images if self.has_features else None
                self.drift = decoder_drift(images, decoder, self.tower.of_worker, encode)

    def _unit_images(self, batch: Tensor, images: Sequence[ImageSource]) -> Tensor:
        with tower_precision(self.precision, self.device):
            return unit_rows(self.parts.encode("images", batch, self.tower), images, image_name)

    def _given(
        self, rows_of: Callable[[Any], Tensor], items: Sequence[Any], name: Callable[[Any], str], unit: str
    ) -> Tensor:
        doing = f"holding the rows of {len(items):,} {unit} on {self.device}; give --device cpu or more memory"
        with memory_for(doing):
            return self.unit_rows(rows_of(items).to(self.device), items, name)

    def unit_rows(self, rows: Tensor, items: Sequence[Any], name: Callable[[Any], str]) -> Tensor:
        """`unit_rows`; those of several vectors only of a model that says how they are scored."""
        if rows.ndim > 2 and not has_similarity(self.model):
            refuse_tokens(self.model, rows, "an image" if name is image_name else "a text")
        return unit_rows(rows, items, name)

    def share(
        self, work: Work, common: Any, batches: Iterable[Any], sizes: Sequence[int], unit: str, doing: str
    ) -> Iterator[tuple[int, Tensor]]:
        """The number of each batch and what `work` makes of it, by whichever rank; counted, and shown as `doing`.

        Args:
            sizes: how many of `unit` each batch holds.
        """
        with self.reporter.task(doing, sum(sizes), unit) as advance, self.pass_progress.shown(advance):
            for number, made in self.crew.share(work, common, batches):
                self.encoded[unit] += sizes[number]
                yield number, made
                self.pass_progress.finish(sizes[number])

    def _encode(
        self, work: Work, common: Any, batches: Iterable[Any], plan: Sequence[Sequence[int]], unit: str
    ) -> Batches:
        """Each batch of `plan` (places of items) and its rows."""
        for number, rows in self.share(work, common, batches, [*map(len, plan)], unit, f"encoding {unit}"):
            yield plan[number], rows.to(self.device)

    def _name(self, kind: str, names: Sequence[str], keys: Sequence[str]) -> None:
        if self.space is not None:
            with phase("store"):
                write_names(self.space, kind, self.benchmark, names, keys)
