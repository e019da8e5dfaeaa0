"""The languages of NLLB's tokenizer, which NLLB-CLIP's models read with a text: their tokenizer must be told them.

The token of the language stands before the text (after it in old versions of the tokenizer), and the text tower is
pooled at the first token, so that the language changes every embedding. clip-benchmark tells it, too
(clip_benchmark/models/nllb_clip.py), and its published figures of these models are measured so. Without a language the
tokenizer takes English.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr

ENGLISH = "eng_Latn"
FLORES_CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
"""The form of NLLB's own codes, those of FLORES-200: language and script."""
_PAIRS = """
    af=afr_Latn am=amh_Ethi ar=arb_Arab as=asm_Beng az=azj_Latn be=bel_Cyrl bg=bul_Cyrl bn=ben_Beng bs=bos_Latn
    ca=cat_Latn cn=zho_Hant cs=ces_Latn cy=cym_Latn da=dan_Latn de=deu_Latn el=ell_Grek en=eng_Latn eo=epo_Latn
    es=spa_Latn et=est_Latn eu=eus_Latn fa=pes_Arab fi=fin_Latn fil=tgl_Latn fr=fra_Latn ga=gle_Latn gd=gla_Latn
    gl=glg_Latn gu=guj_Gujr ha=hau_Latn he=heb_Hebr hi=hin_Deva hr=hrv_Latn hu=hun_Latn hy=hye_Armn id=ind_Latn
    is=isl_Latn it=ita_Latn ja=jpn_Jpan jp=jpn_Jpan jv=jav_Latn ka=kat_Geor kk=kaz_Cyrl km=khm_Khmr kn=kan_Knda
    ko=kor_Hang ku=ckb_Arab ky=kir_Cyrl lo=lao_Laoo lt=lit_Latn lv=lvs_Latn mg=plt_Latn mi=mri_Latn mk=mkd_Cyrl
    ml=mal_Mlym mn=khk_Cyrl mr=mar_Deva ms=zsm_Latn my=mya_Mymr ne=npi_Deva nl=nld_Latn no=nno_Latn om=gaz_Latn
    or=ory_Orya pa=pan_Guru pl=pol_Latn ps=pbt_Arab pt=por_Latn quz=quy_Latn ro=ron_Latn ru=rus_Cyrl sa=san_Deva
    sd=snd_Arab si=sin_Sinh sk=slk_Latn sl=slv_Latn so=som_Latn sq=als_Latn sr=srp_Cyrl su=sun_Latn sv=swe_Latn
    sw=swh_Latn ta=tam_Taml te=tel_Telu th=tha_Thai tl=tgl_Latn tr=tur_Latn ug=uig_Arab uk=ukr_Cyrl ur=urd_Arab
    uz=uzn_Latn vi=vie_Latn xh=xho_Latn yi=ydd_Hebr zh=zho_Hant zhm=yue_Hant
"""
NLLB_CODES: dict[str, str] = dict(pair.split("=") for pair in _PAIRS.split())
"""Codes of benchmarks that are not NLLB's own -> its codes, with which published figures were measured: those of
clip-benchmark 1.6.2, and for the other languages of Babel-ImageNet those of its authors (benchmark/models/nllb_clip.py
of gregor-ge/Babel-ImageNet). Both take Chinese as written in traditional characters, and Norwegian as Nynorsk."""


def language_switch(tokenizer: Any, spec: str) -> Callable[[str], AbstractContextManager[None]] | None:
    """The `use_language` (`cosmos_eval.models.base.LanguageModel`) of a model with this tokenizer.

    Args:
        tokenizer: of open_clip, around one of transformers.
        spec: of the model, for messages.

    Returns:
        None for any other tokenizer than NLLB's.
    """
    wrapped: Any = getattr(tokenizer, "tokenizer", None)
    if not isinstance(getattr(wrapped, "src_lang", None), str) or not _has_code(wrapped, ENGLISH):
        return None

    @contextmanager
    def use_language(code: str) -> Iterator[None]:
        nllb_code = NLLB_CODES.get(code, code)
        if not FLORES_CODE.fullmatch(nllb_code) or not _has_code(wrapped, nllb_code):
            raise RequestError(
                f"the tokenizer of {spec} has no code for the language {short_repr(code)}; leave it out of the "
                "definition, or name it by its code of NLLB, such as deu_Latn"
            )
        # Not by set_src_lang_special_tokens, as open_clip and clip-benchmark do it: each call of the tokenizer sets the
        # tokens of src_lang again. It lasted with open_clip's tokenizer of before, which called batch_encode_plus.
        language_before = wrapped.src_lang
        wrapped.src_lang = nllb_code
        try:
            yield
        finally:
            wrapped.src_lang = language_before

    return use_language


def _has_code(tokenizer: Any, code: str) -> bool:
    """Whether a code of NLLB is a word of the vocabulary; transformers' own method would take the unknown word."""
    return tokenizer.convert_tokens_to_ids(code) not in (None, tokenizer.unk_token_id)
