from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from server.engine.tokens import decoded, following, pieces_of, text_of, trimmed

SENTENCES = ["The blue square.</CAPTION> The end.", "A red circle, a blue square."] * 4


def trained(pre_tokenizer: pre_tokenizers.PreTokenizer, decoder: decoders.Decoder) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoder
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


BYTES = trained(pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel())
WORDS = trained(pre_tokenizers.Metaspace(), decoders.Metaspace())


def spelling() -> PreTrainedTokenizerFast:
    """As SentencePiece makes it for Llama 2: a space before the first word, unknown characters as bytes."""
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127)), "▁a", "an", "</"]
    merges = [("▁", "a"), ("a", "n"), ("<", "/")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


SPELLED = spelling()


def encode(text: str) -> list[int]:
    return list(BYTES.encode(text, add_special_tokens=False))


def decode(ids: Sequence[int]) -> str:
    return str(BYTES.decode(list(ids), skip_special_tokens=False))


@given(st.text(min_size=1), st.text(max_size=8), st.text(max_size=8))
def test_trimmed_ids_decode_to_the_text(before: str, stop: str, beyond: str) -> None:
    text = before + stop
    assert decode(trimmed(encode(text + beyond), text, decode=decode, encode=encode)) == text


def test_ids_that_end_at_the_text_stay() -> None:
    odd = encode("The blue squ") + encode("are.")
    assert odd != encode("The blue square.")
    assert trimmed(odd, "The blue square.", decode=decode, encode=encode) == odd


def test_only_the_cut_token_is_encoded_anew() -> None:
    ids = encode("The blue square")
    assert decode(ids[-1:]) == " square"
    assert trimmed(ids, "The blue sq", decode=decode, encode=encode) == ids[:-1] + encode(" sq")


@pytest.mark.parametrize("tokenizer", [BYTES, WORDS])
def test_text_after_a_token_keeps_its_space(tokenizer: PreTrainedTokenizerFast) -> None:
    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids)))

    text = "The blue square."
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert decoded(ids[1:], after=ids[0], decode=decode) == text.removeprefix(decode(ids[:1]))


@pytest.mark.parametrize("tokenizer", [BYTES, SPELLED])
@given(text=st.text(st.characters(max_codepoint=0x2000), max_size=8))
def test_text_that_goes_on_gets_no_space(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    assert tokenizer.decode(encode("What is <") + following(text, encode=encode)) == "What is <" + text


@pytest.mark.parametrize("tokenizer", [BYTES, SPELLED])
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), min_size=1), beyond=st.text(max_size=8))
def test_the_pieces_of_tokens_are_the_text(tokenizer: PreTrainedTokenizerFast, text: str, beyond: str) -> None:
    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids)))

    first, *ids = tokenizer.encode("a" + text + beyond, add_special_tokens=False)
    text = decoded(ids, after=first, decode=decode)[: len(text)]
    pieces = list(pieces_of(ids, text, after=first, decode=decode))
    assert "".join(piece for _, piece in pieces) == text
    assert len(pieces) == len(ids)


def test_a_stop_string_that_is_encoded_anew_gets_no_space() -> None:
    def encode(text: str) -> list[int]:
        return list(SPELLED.encode(text, add_special_tokens=False))

    def decode(ids: Sequence[int]) -> str:
        return str(SPELLED.decode(list(ids)))

    assert decode(trimmed(encode("Yes.</an"), "Yes.</a", decode=decode, encode=encode)) == "Yes.</a"


@given(st.text())
def test_a_text_is_what_the_tokenizer_says(text: str) -> None:
    ids = encode(text)
    assert text_of(ids, BYTES) == text_of(ids, BYTES.backend_tokenizer) == decode(ids)
