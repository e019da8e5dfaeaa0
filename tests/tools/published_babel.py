"""Figures of Babel-ImageNet's authors, as rows of `published.csv`.

Their results are fractions, of which each is a whole number of the 50 images of each of a language's classes; the
numbers of classes in the same files are those of clip-benchmark's lists. Left out:

- `en`: they ask OpenAI's names and templates there, where clip-benchmark has WordNet's names and other templates;
- NLLB-CLIP: they tell its tokenizer the language of the texts, which this package does not;
- br, fy and la, which have no templates, and models that open_clip does not have.
"""

from tests.tools.published_table import PaperTable

BABEL_LANGUAGES = (
    "af", "am", "ar", "as", "az", "be", "bg", "bn", "bs", "ca", "cs", "cy", "da", "de", "el", "eo", "es", "et",
    "eu", "fa", "fi", "fr", "ga", "gd", "gl", "gu", "ha", "he", "hi", "hr", "hu", "hy", "id", "is", "it", "ja",
    "jv", "ka", "kk", "km", "kn", "ko", "ku", "ky", "lo", "lt", "lv", "mg", "mk", "ml", "mn", "mr", "ms", "my",
    "ne", "nl", "no", "om", "or", "pa", "pl", "ps", "pt", "ro", "ru", "sa", "sd", "si", "sk", "sl", "so", "sq",
    "sr", "su", "sv", "sw", "ta", "te", "th", "tl", "tr", "ug", "uk", "ur", "uz", "vi", "xh", "yi", "zh",
)  # fmt: skip
BABEL_IMAGENET = PaperTable(
    paper="Babel-ImageNet (arXiv 2306.08658)",
    source="github:gregor-ge/Babel-ImageNet results/babel-imagenet, prompts nllb_dist13b_prompts, fractions there; "
    "models by evaluation_scripts/babel_imagenet.sh",
    columns=tuple(
        (f"Babel-ImageNet {language}", "accuracy", "babel-imagenet", f"{language}/top1") for language in BABEL_LANGUAGES
    ),
    figures={
        (f"{architecture} {tag}", f"open_clip:{architecture}/{tag}", architecture, tag): figures
        for (architecture, tag), figures in {
            ("xlm-roberta-base-ViT-B-32", "laion5b_s13b_b90k"):
                "36.48 1.04 24.51 5.43 25.83 27.18 41.26 8.61 55.99 33.37 41.80 12.08 42.92 47.58 37.21 21.82 44.78 "
                "29.68 16.87 32.66 25.00 46.21 6.71 5.98 43.82 6.94 2.47 26.64 25.85 44.82 40.93 9.91 43.78 13.51 "
                "41.88 42.35 31.81 11.09 28.12 3.31 4.16 33.52 14.10 32.56 0.85 34.68 38.52 13.94 36.08 1.69 18.58 "
                "32.29 37.08 5.82 25.00 41.71 41.98 5.44 3.27 1.77 39.15 21.66 47.21 35.17 42.95 11.55 14.56 3.22 "
                "44.99 36.93 6.66 33.99 33.93 27.71 42.88 10.25 4.54 2.83 28.71 17.54 41.25 3.06 39.19 26.01 21.83 "
                "40.92 24.11 2.49 40.73",
            ("xlm-roberta-large-ViT-H-14", "frozen_laion5b_s13b_b90k"):
                "47.53 2.56 31.70 9.53 36.98 40.12 54.02 19.57 69.88 46.78 54.11 16.52 55.50 61.05 50.77 28.50 57.40 "
                "37.84 21.51 42.48 35.69 59.72 9.45 7.30 54.66 12.02 3.57 35.87 38.65 58.20 53.25 17.50 57.61 19.25 "
                "55.03 57.14 40.44 20.44 34.52 3.16 5.68 43.51 15.88 38.55 2.21 45.79 47.30 14.62 49.47 4.45 26.49 "
                "41.66 48.35 10.27 36.39 54.93 53.57 13.00 1.61 2.56 51.46 25.04 59.62 47.60 58.21 11.73 16.49 5.32 "
                "58.68 48.65 7.41 43.35 47.70 30.61 55.20 12.91 6.73 3.71 40.16 21.73 52.88 4.64 53.18 37.12 28.45 "
                "53.39 27.14 4.73 53.28",
            ("ViT-B-16-SigLIP-i18n-256", "webli"):
                "47.17 14.56 42.27 23.14 47.82 32.05 58.99 49.42 79.49 42.96 66.02 12.72 62.46 67.10 51.16 21.65 60.72 "
                "53.50 21.89 52.30 46.88 63.54 5.55 4.94 47.37 20.72 3.06 48.99 40.51 66.58 63.90 35.09 69.25 30.18 "
                "59.89 62.79 50.40 41.13 47.70 31.54 16.30 56.58 15.50 41.60 10.26 55.12 56.70 12.34 47.31 15.31 44.96 "
                "42.24 61.10 17.16 40.16 57.96 61.21 10.22 1.61 3.05 61.38 24.52 61.70 51.22 60.16 23.15 15.61 29.13 "
                "66.17 59.23 7.07 43.77 45.43 35.90 61.67 20.17 30.21 19.17 40.84 33.05 63.65 6.19 57.54 29.48 36.42 "
                "59.90 24.80 3.82 55.42",
        }.items()
    },
)  # fmt: skip
