"""Captions in several languages, and class names in several languages."""

import re

LANGUAGE_CODE = re.compile(r"\w[\w-]*")
"""The code of a language, as a dataset's authors write it (`de`, `zh-Hans`, `deu_Latn`). It begins metrics' names."""
