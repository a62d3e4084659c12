"""What is known of the five data sets: their files, where these come from, their licences and papers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PAWS_X_LANGUAGES = ("de", "en", "es", "fr", "ja", "ko", "zh")


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One data set. `files` are by split, with the language in braces; `addresses` by archive, or by file."""

    name: str
    description: str
    folder: str  # where its files lie in a source folder
    archive: str  # file name of the official archive; empty where there is none
    files: Mapping[str, str]  # split (train, validation, test) to file name
    needed: tuple[str, ...]  # the splits that cannot do without
    addresses: Mapping[str, str]
    classes: tuple[str, ...]  # names of labels 0 and 1; empty where a row is a question with five options
    homepage: str
    licence: str
    citation: str
    # How many the papers say each split has: of files that no archive has a checksum of, where one that ends early is one that is whole.
    rows: Mapping[str, int] = field(default_factory=dict)

    def names(self, language: str = "") -> dict[str, str]:
        """File names by split. PAWS-X's training file is named after whether it is a translation."""
        training = "train" if language == "en" else "translated_train"
        return {split: name.format(language=language, training=training) for split, name in self.files.items()}


_SST2 = DataSet(
    name="sst2",
    description="The Stanford Sentiment Treebank as GLUE has it: sentences of film reviews, negative or positive.",
    folder="SST-2",
    archive="SST-2.zip",
    files={"train": "train.tsv", "validation": "dev.tsv"},  # test.tsv has no labels
    needed=("train", "validation"),
    addresses={"SST-2.zip": "https://dl.fbaipublicfiles.com/glue/data/SST-2.zip"},
    classes=("negative", "positive"),
    homepage="https://nlp.stanford.edu/sentiment/index.html",
    licence="None stated; for research.",
    citation="""@inproceedings{socher2013recursive,
  title={Recursive deep models for semantic compositionality over a sentiment treebank},
  author={Socher, Richard and Perelygin, Alex and Wu, Jean and Chuang, Jason and Manning, Christopher D and Ng, Andrew and Potts, Christopher},
  booktitle={Proceedings of EMNLP 2013},
  pages={1631--1642},
  year={2013}
}""",
)
_MRPC = DataSet(
    name="mrpc",
    description="The Microsoft Research Paraphrase Corpus: pairs of sentences of the news, equivalent or not.",
    folder="mrpc",
    archive="",
    files={"train": "msr_paraphrase_train.txt", "test": "msr_paraphrase_test.txt"},
    needed=("train", "test"),
    addresses={
        name: f"https://dl.fbaipublicfiles.com/senteval/senteval_data/{name}"
        for name in ("msr_paraphrase_train.txt", "msr_paraphrase_test.txt")
    },
    classes=("not_equivalent", "equivalent"),
    homepage="https://www.microsoft.com/en-us/download/details.aspx?id=52398",
    licence="Microsoft shared source; for research, not to be passed on.",
    citation="""@inproceedings{dolan2005automatically,
  title={Automatically constructing a corpus of sentential paraphrases},
  author={Dolan, William B and Brockett, Chris},
  booktitle={Proceedings of the Third International Workshop on Paraphrasing (IWP2005)},
  year={2005}
}""",
    rows={"train": 4_076, "test": 1_725},
)
_PAWS_X = DataSet(
    name="paws_x",
    description="PAWS-X: pairs of sentences with many words in common, paraphrases or not, in parallel in seven languages.",
    folder="x-final",
    archive="x-final.tar.gz",
    files={
        "train": "{language}/{training}.tsv",
        "validation": "{language}/dev_2k.tsv",
        "test": "{language}/test_2k.tsv",
    },
    needed=("validation",),
    addresses={"x-final.tar.gz": "https://storage.googleapis.com/paws/pawsx/x-final.tar.gz"},
    classes=("different_meaning", "paraphrase"),
    homepage="https://github.com/google-research-datasets/paws/tree/master/pawsx",
    licence="Free for any purpose; Google LLC asks to be acknowledged.",
    citation="""@inproceedings{pawsx2019emnlp,
  title={PAWS-X: A Cross-lingual Adversarial Dataset for Paraphrase Identification},
  author={Yang, Yinfei and Zhang, Yuan and Tar, Chris and Baldridge, Jason},
  booktitle={Proceedings of EMNLP},
  year={2019}
}""",
)
_COMMONSENSE_QA = DataSet(
    name="commonsense_qa",
    description="CommonsenseQA, random split: questions with five options that need what everybody knows.",
    folder="commonsense_qa",
    archive="",
    files={"train": "train_rand_split.jsonl", "validation": "dev_rand_split.jsonl"},  # test has no answers
    needed=("train", "validation"),
    addresses={
        name: f"https://s3.amazonaws.com/commensenseqa/{name}"
        for name in ("train_rand_split.jsonl", "dev_rand_split.jsonl")
    },
    classes=(),
    homepage="https://www.tau-nlp.sites.tau.ac.il/commonsenseqa",
    licence="MIT, as far as is known.",
    citation="""@inproceedings{talmor2019commonsenseqa,
  title={CommonsenseQA: A Question Answering Challenge Targeting Commonsense Knowledge},
  author={Talmor, Alon and Herzig, Jonathan and Lourie, Nicholas and Berant, Jonathan},
  booktitle={Proceedings of NAACL-HLT},
  pages={4149--4158},
  year={2019}
}""",
    rows={"train": 9_741, "validation": 1_221},
)
_MATH_QA = DataSet(
    name="math_qa",
    description="MathQA: word problems of school mathematics with five options.",
    folder="MathQA",
    archive="MathQA.zip",
    files={"train": "train.json", "validation": "dev.json", "test": "test.json"},
    needed=("validation",),
    addresses={"MathQA.zip": "https://math-qa.github.io/data/MathQA.zip"},
    classes=(),
    homepage="https://math-qa.github.io/",
    licence="Apache-2.0.",
    citation="""@inproceedings{amini2019mathqa,
  title={MathQA: Towards Interpretable Math Word Problem Solving with Operation-Based Formalisms},
  author={Amini, Aida and Gabriel, Saadia and Lin, Shanchuan and Koncel-Kedziorski, Rik and Choi, Yejin and Hajishirzi, Hannaneh},
  booktitle={Proceedings of NAACL-HLT},
  pages={2357--2367},
  year={2019}
}""",
)
DATA_SETS = {one.name: one for one in (_SST2, _MRPC, _PAWS_X, _COMMONSENSE_QA, _MATH_QA)}
