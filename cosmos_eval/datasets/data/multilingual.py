"""Images with captions in several languages: one set of images, and a set of captions for each language."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from cosmos_core.errors import RequestError, naming
from cosmos_core.printable import plural
from cosmos_eval.datasets.consistency import find_broken_texts, find_repeated_images, format_names
from cosmos_eval.datasets.data.base import Data, new_indices, spread_indices
from cosmos_eval.datasets.fingerprint import ContentHash
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.kinds import MULTILINGUAL_RETRIEVAL
from cosmos_eval.datasets.languages import LANGUAGE_CODE
from cosmos_eval.datasets.memory_images import as_image_sources
from cosmos_eval.datasets.memory_values import as_list, as_texts, as_whole_numbers


@dataclass(frozen=True, repr=False)
class MultilingualRetrievalData(Data):
    """N images with M captions in L languages: `texts[j]` in `languages[language_of_text[j]]` belongs to the image
    `image_of_text[j]`. Every image has at least one caption in every language."""

    kind = MULTILINGUAL_RETRIEVAL
    hashed_as = "MultilingualRetrievalData"

    images: Sequence[ImageSource]
    texts: Sequence[str]
    image_of_text: np.ndarray  # (M,) int64, indices of images
    language_of_text: np.ndarray  # (M,) int64, indices of languages
    languages: Sequence[str]
    """Codes of the languages, in the order of tables."""
    fingerprint: str = ""
    remarks: Sequence[str] = ()
    name: str = ""

    @classmethod
    def from_captions(
        cls,
        images: Iterable[Any],
        captions: Mapping[str, Iterable[Any]],
        *,
        name: str = "",
        names: Sequence[str] | None = None,
        root: str | Path | None = None,
    ) -> "MultilingualRetrievalData":
        """Build the data from the captions of each language.

        Args:
            images: N images, as `memory_images.as_image_sources` accepts them.
            captions: language -> for each image its caption, or a list of its captions.
            name: of the benchmark in results.
            names: a name for each image; `root`: the folder to which names of files are relative.

        Raises:
            RequestError: wrong types, or captions for another number of images.
        """
        with naming(cls.__name__):
            sources = as_image_sources(images, root, names)
            texts: list[str] = []
            image_of_text: list[int] = []
            language_of_text: list[int] = []
            for number, (language, of_language) in enumerate(captions.items()):
                of_images = as_list(of_language, f"captions[{language!r}]")
                if len(of_images) != len(sources):
                    raise RequestError(
                        f"got {plural(len(sources), 'image')} and {plural(len(of_images), 'caption')} in {language}; "
                        "give a caption, or a list of captions, for each image"
                    )
                for i, of_image in enumerate(of_images):
                    found = as_texts([of_image] if isinstance(of_image, str) else of_image, f"captions[{language!r}]")
                    texts += found
                    image_of_text += [i] * len(found)
                    language_of_text += [number] * len(found)
            return cls(
                sources,
                texts,
                np.array(image_of_text, dtype=np.int64),
                np.array(language_of_text, dtype=np.int64),
                tuple(captions),
                name=name,
            )

    def texts_in(self, language: int) -> np.ndarray:
        """Return (K,) int64, the indices of the texts in one language, ascending."""
        return np.flatnonzero(self.language_of_text == language)

    def normalised(self) -> Self:
        return (
            super()
            .normalised()
            .replaced(
                texts=as_texts(self.texts, "texts"),
                image_of_text=as_whole_numbers(self.image_of_text, "image_of_text"),
                language_of_text=as_whole_numbers(self.language_of_text, "language_of_text"),
                languages=as_texts(self.languages, "languages"),
            )
        )

    def counts(self) -> dict[str, int]:
        return {"images": len(self.images), "texts": len(self.texts), "languages": len(self.languages)}

    def hash_into(self, content: ContentHash) -> None:
        content.strings("languages", self.languages)
        content.strings("texts", self.texts)
        content.integers("text_image", self.image_of_text)
        content.integers("text_language", self.language_of_text)

    def problems(self) -> list[str]:
        problems = find_broken_texts("texts", self.texts)
        wrong_codes = [repr(code) for code in self.languages if not LANGUAGE_CODE.fullmatch(code)]
        if wrong_codes:
            problems.append(f"has languages that are not codes, such as de or zh-Hans: {format_names(wrong_codes)}")
        if len(set(self.languages)) < len(self.languages):
            problems.append("has a language twice")
        if not len(self.texts) == len(self.image_of_text) == len(self.language_of_text):
            return [
                *problems,
                f"has {plural(len(self.texts), 'text')}, but images of {len(self.image_of_text):,} and languages of "
                f"{len(self.language_of_text):,}",
            ]
        for name, index, size in (
            ("images", self.image_of_text, len(self.images)),
            ("languages", self.language_of_text, len(self.languages)),
        ):
            if len(index) and not (index.min() >= 0 and index.max() < size):
                return [*problems, f"has a text with an index of {name} outside 0 to {size - 1}"]
        for number, language in enumerate(self.languages):
            captioned = set(self.image_of_text[self.texts_in(number)].tolist())
            missing = [self.images[i].key for i in range(len(self.images)) if i not in captioned]
            if missing:
                problems.append(
                    f"has {plural(len(missing), 'image')} without a caption in {language}: {format_names(missing)}"
                )
        return problems if self.languages else [*problems, "has no language"]

    def observations(self) -> list[str]:
        empty = [j for j, text in enumerate(self.texts) if not text.strip()]
        if not empty:
            return []
        verb = "is" if len(empty) == 1 else "are"
        places = (f"{self.languages[self.language_of_text[j]]} {self.images[self.image_of_text[j]].key}" for j in empty)
        return [f"{len(empty):,} of {plural(len(self.texts), 'caption')} {verb} empty: {format_names(places)}"]

    def content_observations(self) -> list[str]:
        """Return a remark on images that are in the data twice: the captions of each are wrong for the other."""
        return find_repeated_images(self.images)

    def subset(self, n: int) -> Self:
        image_indices = spread_indices(len(self.images), n)
        new_image = new_indices(image_indices, len(self.images))
        kept = np.flatnonzero(new_image[self.image_of_text] >= 0)
        return self.replaced(
            images=[self.images[i] for i in image_indices.tolist()],
            texts=[self.texts[j] for j in kept.tolist()],
            image_of_text=new_image[self.image_of_text[kept]],
            language_of_text=self.language_of_text[kept],
            fingerprint="",
        )
