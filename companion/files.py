"""A dataset's name -> its files -> its splits, as they are stored.

A name is a corpus in this package, a local folder, or a Hub id. In a folder, a file's name or its folder's name says
the split: train.csv, imdb_train.jsonl.gz, test/data.parquet, train-00000-of-00002.parquet.
"""

import csv
import gzip
import io
import json
import re
import zlib
from pathlib import Path

import datasets
import pyarrow
from pyarrow import parquet

PACKAGED = {name: Path(__file__).parent / "assets" / name for name in ("matinee", "matinee-more", "matinee-hard")}
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLITS |= dict.fromkeys(("validation", "valid", "val", "dev"), "validation")
ORDER = ["train", "validation", "test"]
DATA_FILE = re.compile(r"(.+)\.(parquet|jsonl|ndjson|json|csv|tsv)(\.gz)?", re.IGNORECASE)
HIDDEN = (".", "__", "~", "#")  # notebook checkpoints, macOS archives, backup copies that editors make


def read_splits(name: str) -> datasets.DatasetDict:
    """The splits as they are stored, train first. Raises ValueError, with one sentence, if they cannot be read.

    Local files are read into memory one by one: nothing is cached, and each file's labels keep their own meaning.
    """
    folder = PACKAGED.get(name, Path(name))
    if not folder.is_dir():
        try:
            splits = datasets.load_dataset(name)
        except Exception as error:  # the Hub's client raises a dozen different errors
            raise ValueError(
                f"There is no dataset '{name}': it is not {' or '.join(map(repr, PACKAGED))}, no folder of that name "
                f"is here, and the Hugging Face Hub did not give it ({type(error).__name__})."
            ) from None
    elif (folder / "dataset_dict.json").is_file():  # written by save_to_disk
        splits = datasets.load_from_disk(folder)
    else:
        splits = {split: join(paths, folder) for split, paths in find_files(folder, name).items()}
    renamed = {SPLITS.get(split.lower(), split): rows for split, rows in splits.items()}
    if len(renamed) < len(splits):
        raise ValueError(f"'{name}' has two splits of the same meaning: {', '.join(splits)}.")
    ranks = {split: rank for rank, split in enumerate(ORDER)}
    ordered = sorted(renamed, key=lambda split: (ranks.get(split, 3), split))
    return datasets.DatasetDict({split: renamed[split] for split in ordered})


def find_files(folder: Path, name: str) -> dict[str, list[Path]]:
    """split -> its files. Raises ValueError, naming the files, where it is not clear what belongs to a split."""
    found = {}
    for path in sorted(folder.rglob("*")):
        place, match = path.relative_to(folder), DATA_FILE.fullmatch(path.name)
        if match and path.is_file() and not any(part.startswith(HIDDEN) for part in place.parts):
            if split := split_of(place, match[1], match[2].lower()):
                found.setdefault(split, []).append(path)
    if not found:
        raise ValueError(f"The folder '{name}' holds no .parquet, .jsonl or .csv file (.json and .tsv will also do).")
    for split, paths in found.items():
        if not are_shards(paths):
            listed = ", ".join(f"'{path.relative_to(folder)}'" for path in paths[:4]) + (" ..." if paths[4:] else "")
            raise ValueError(
                f"It is not clear which files are the split '{split}' of '{name}': {listed}; "
                "keep one of them, or shards that are numbered and complete."
            )
    return found


def split_of(place: Path, stem: str, kind: str) -> str | None:
    """The split that a file belongs to; None for a .json file that names no split: settings are stored like that."""
    named = {SPLITS[word] for word in re.split(r"[^a-z]+", stem.lower()) if word in SPLITS}
    folders = [SPLITS[part.lower()] for part in place.parts[:-1] if part.lower() in SPLITS]
    splits = named | set(folders)
    if len(splits) > 1:
        raise ValueError(f"The path '{place}' names more than one split: {', '.join(sorted(splits))}; rename it.")
    if not splits and kind != "json":
        word = re.sub(r"(-\d+)*(-of-\d+)?$", "", stem)
        if not re.fullmatch(r"\w+", word):
            raise ValueError(
                f"The file name '{place}' does not say which split it is: name it train, validation or test, "
                "or move it to another folder if it is not part of the dataset."
            )
        return word
    return next(iter(splits), None)


def are_shards(paths: list[Path]) -> bool:
    """Whether files together are one split: a single file, or numbered parts in one folder, none of them missing."""
    names = [re.sub(r"-[0-9a-f]{16}(?=\.)", "", path.name.lower()) for path in paths]  # older Hub files end in a hash
    totals = {int(total) for name in names for total in re.findall(r"-of-(\d+)", name)}
    if totals and totals != {len(paths)}:
        return False
    alike = {(path.parent, re.sub(r"\d+", "0", name)) for path, name in zip(paths, names, strict=True)}
    return len(alike) == 1 and len(set(names)) == len(paths)


def join(paths: list[Path], folder: Path) -> datasets.Dataset:
    """The rows of all the files of a split."""
    parts = [read(path, path.relative_to(folder)) for path in paths]
    try:
        return datasets.concatenate_datasets(parts) if len(parts) > 1 else parts[0]
    except ValueError:
        first, *others = (path.relative_to(folder) for path in paths)
        raise ValueError(f"The columns of '{others[-1]}' differ from those of '{first}'.") from None


def read(path: Path, place: Path) -> datasets.Dataset:
    """The rows of one file, in memory. Raises ValueError, naming the file and the cause, if it cannot be read."""
    kind = DATA_FILE.fullmatch(path.name)[2].lower()
    try:
        if kind == "parquet":
            table = parquet.read_table(path)
            for i, (column, values) in enumerate(zip(table.column_names, table.columns, strict=True)):
                if pyarrow.types.is_dictionary(values.type):  # how pandas stores its categories
                    table = table.set_column(i, column, values.cast(values.type.value_type))
            return datasets.Dataset(datasets.table.InMemoryTable(table))
        with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as file:
            text = file.read().decode("utf-8-sig")
        if not text.strip():
            raise ValueError("it is empty")
        if "\0" in text:
            raise ValueError("it has null characters, perhaps because it is encoded in UTF-16; save it as UTF-8")
        rows = read_delimited(text, kind) if kind in ("csv", "tsv") else read_json(text, kind)
        return datasets.Dataset.from_dict(rows)
    except UnicodeDecodeError:
        raise ValueError(f"The file '{place}' is not encoded in UTF-8; save it as UTF-8 in an editor.") from None
    except (ValueError, OverflowError, RecursionError, pyarrow.ArrowException, OSError, EOFError, zlib.error) as error:
        cause = " ".join(str(error).split())[:200].rstrip(".")
        raise ValueError(f"The file '{place}' cannot be read: {cause}.") from None


def read_delimited(text: str, kind: str) -> dict[str, list]:
    """The columns of a CSV or TSV file, all of them as text: a label "NA" is a label, a missing value is ""."""
    csv.field_size_limit(2**31 - 1)  # a cell may hold a whole document
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if kind == "tsv" else ",", strict=True)
    try:
        names, *rows = filter(None, reader)  # an empty line is no row
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from None
    if wrong := next((sign for sign in ";\t|" if len(names) == 1 and sign in names[0]), None):
        raise ValueError(f"its columns are separated by {wrong!r}; a .csv file needs commas, and a .tsv file tabs")
    if len(set(names)) < len(names):
        raise ValueError("two of its columns have the same name")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(names):
            raise ValueError(
                f"row {number} has {len(row)} values for {len(names)} columns; "
                "a text that contains the delimiter must stand in double quotes"
            )
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def read_json(text: str, kind: str) -> dict[str, list]:
    """The columns of a list of objects, or of an object per line; a value that a row lacks is None."""
    try:
        rows = json.loads(text) if kind == "json" else None
    except json.JSONDecodeError:
        rows = None  # many a .json file holds JSON lines
    if isinstance(rows, dict):
        rows = rows.get("data", [rows])
    if rows is None:
        rows = []
        for number, line in enumerate(text.split("\n"), start=1):
            try:
                rows += [json.loads(line)] if line.strip() else []
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is not JSON ({error.msg})") from None
    if not isinstance(rows, list):
        raise ValueError("it is not a list of objects, one for each row")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"row {number} is not an object with a text and a label")
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
    for name, values in columns.items():
        check_column(name, values)
    return columns


def check_column(name: str, values: list) -> None:
    """Raises ValueError, naming the row, for values that no column can hold together."""
    first = next((value for value in values if value is not None), None)
    for number, value in enumerate(values, start=1):
        if not is_text(json.dumps([name, value], ensure_ascii=False)):
            raise ValueError(f"row {number} has half a character in {name!a} (a lone surrogate); remove it")
        if value is not None and type(value) is not type(first) and {type(value), type(first)} != {int, float}:
            raise ValueError(f"row {number} has {value!r} as '{name}', and rows before it {first!r}: mixed types")


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8: a lone surrogate, half of an emoji for example, cannot."""
    return re.search(r"[\ud800-\udfff]", value) is None
