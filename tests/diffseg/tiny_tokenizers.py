"""Small tokenizers of real kinds: CLIP's byte-level BPE, T5's Unigram, and a slow one, without offsets."""

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTokenizer, PreTrainedTokenizer, PreTrainedTokenizerFast

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = ("cat", "fish", "grass", "hopper", "tra", "ffic", "light")
MARK = "▁"


def clip_like(limit: int = 77) -> CLIPTokenizer:
    """Pieces of words of three and more letters are one token; a word's last token ends in </w>."""
    alphabet = [*pre_tokenizers.ByteLevel.alphabet()]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *alphabet, *(letter + "</w>" for letter in alphabet)]
    merges: list[tuple[str, str]] = []
    for piece in PIECES:
        for end in ("", "</w>"):
            parts = [*piece[:-1], piece[-1] + end]
            while len(parts) > 1:
                merges.append((parts[0], parts[1]))
                parts = [parts[0] + parts[1], *parts[2:]]
                vocabulary.append(parts[0])
    ids = {token: i for i, token in enumerate(dict.fromkeys(vocabulary))}
    return CLIPTokenizer(vocab=ids, merges=list(dict.fromkeys(merges)), model_max_length=limit)


def t5_like(limit: int = 64) -> PreTrainedTokenizerFast:
    """Unigram with a mark for white space, which is a token of its own before an unknown beginning."""
    first = [(MARK + piece, -1.0) for piece in ("a", "the", *PIECES)]
    scores = [*first, *((piece, -1.5) for piece in PIECES), (MARK, -2.0)]
    scores += [(character, -9.0) for character in LETTERS + LETTERS.upper() + ".,!?'-<>_0123456789é"]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    backend = Tokenizer(models.Unigram([*special, *scores], unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=limit,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )


class Slow(PreTrainedTokenizer):
    """The pieces of each word, longest first; two special tokens and the padding come before them."""

    def __init__(self, limit: int = 64) -> None:
        pieces = (*PIECES, *LETTERS, *".,!?'-")
        names = ["<pad>", "<s>", "</s>", "<unk>", *pieces, *(MARK + piece for piece in pieces)]
        self.ids = {name: i for i, name in enumerate(names)}
        special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        super().__init__(model_max_length=limit, padding_side="left", **special)

    @property
    def vocab_size(self) -> int:
        return len(self.ids)

    def get_vocab(self) -> dict[str, int]:
        return dict(self.ids)

    def _tokenize(self, text: str, **kwargs: object) -> list[str]:
        return [piece for word in text.lower().split() for piece in self.pieces(word)]

    def pieces(self, word: str) -> list[str]:
        found, mark = [], MARK
        while word:
            piece = next(p for p in (*PIECES, word[0]) if word.startswith(p))
            found.append(mark + piece)
            word, mark = word[len(piece) :], ""
        return found

    def _convert_token_to_id(self, token: str) -> int:
        return self.ids.get(token, self.ids["<unk>"])

    def _convert_id_to_token(self, index: int) -> str:
        return list(self.ids)[index]

    def build_inputs_with_special_tokens(self, token_ids_0, token_ids_1=None):
        return [self.bos_token_id, self.bos_token_id, *token_ids_0, self.eos_token_id]

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return 3


class Joining(Slow):
    """Tokens of two letters, of which the first may end a word and the second begin the next."""

    def _tokenize(self, text: str, **kwargs: object) -> list[str]:
        joined = "".join(text.lower().split())
        return [joined[i : i + 2] for i in range(0, len(joined), 2)]
