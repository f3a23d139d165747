"""Bad input, generated: every verb, every flag and every kind of file, each with all that can be wrong with it.

Verbs come from ``VERBS`` and flags from the dataclasses that declare them, so that a new one is tried as it comes. What
is right is decided by rule: a number is legal where the settings that hold it can be made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import importlib
import io
import os
import re
import signal
import socket
import struct
import tempfile
import tomllib
import types
import typing
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tomli_w
import tyro
from PIL import Image

from ancestral.cli import VERBS
from ancestral.cli.train import form
from ancestral.configs import MODELS
from ancestral.errors import AncestralError

RANDOM = np.random.default_rng(19)
HUGE = 10**30
CURE = re.compile(
    r"--[a-z]|`ancestral |FILE\.py:NAME|Known: |Did you mean|must be|1 or more|at least|keep one|[Gg]ive|Use|[Pp]ut"
    r"|[Ll]eave|[Ss]ave|[Ff]ill|[Rr]emove|Restore|Choose|[Mm]ake|[Ww]rite|Train|reshape|[Cc]onvert|rename|Rescale|Crop"
    r"|Ask for|pass them|Build"
)


# ---- what is held of every command


@dataclasses.dataclass(frozen=True)
class Case:
    """Words to type, and what their answer must mention (one of them, as it may be written in several ways)."""

    name: str
    words: tuple[str, ...]
    seen: tuple[str, ...]
    may_work: bool = False


def tree(*places: Path) -> dict[str, object]:
    """Everything below some folders: names, and what the files hold."""
    found: dict[str, object] = {}
    for place in places:
        for path in place.rglob("*"):
            found[str(path)] = path.read_bytes() if path.is_file() and not path.is_symlink() else path.is_dir()
    return found


class HangError(BaseException):
    """Nothing but this test catches it."""


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Things to stumble over; cache and temporary files where they are looked into; no network, and no hanging."""
    np.savetxt("table.csv", RANDOM.normal(size=(31, 3)), delimiter=",")
    for folder in ("taken", "taken.png", "taken.py", "temporary", "empty"):
        Path(folder).mkdir()
    for file in ("taken/something", "taken.png/something", "file", "file.py"):
        Path(file).write_text("one\n", encoding="utf-8")
    Path("broken.py").write_text("model = 1 / 0\n", encoding="utf-8")
    Path("number.py").write_text("model = 3\n", encoding="utf-8")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for scheme in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(scheme, "http://127.0.0.1:9")

    def hang(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def squeezed(text: str) -> str:
    """Without the frame and the line breaks that the width of the screen made."""
    return re.sub(r"[\s│|]", "", text)


def check(command: Any, words: tuple[str, ...], seen: tuple[str, ...], may_work: bool = False) -> None:
    """The command is refused in one message that mentions what was seen and a cure, and leaves everything as it was."""
    before = tree(Path.cwd())
    ended = command(*words)
    if may_work and ended.status == 0:
        assert "error" not in ended.err
        return
    assert ended.status in (1, 2)
    assert "Traceback" not in ended.err
    assert ended.err.count("error: ") + ended.err.count("For full helptext") == 1, ended.err
    assert any(squeezed(word) in squeezed(ended.err) for word in seen), ended.err
    assert CURE.search(ended.err), ended.err
    after = tree(Path.cwd())
    assert {path for path in {*before, *after} if before.get(path) != after.get(path)} == set()


# ---- every verb and every flag


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag: its name, its type without None, and how settings are made with another value."""

    name: str
    kind: Any
    metavar: str
    positional: bool
    required: bool
    made_with: Callable[[Any], object] | None = None

    @property
    def word(self) -> str:
        return "--" + self.name.replace("_", "-")


def flags_of(kind: type, default: Any = None) -> Iterator[Flag]:
    """The flags of a dataclass, those of settings within it included."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint, extras = hints[field.name], []
        while get_origin(hint) is Annotated:
            hint, *more = get_args(hint)
            extras += more
        if isinstance(hint, types.UnionType):
            (hint,) = (inner for inner in get_args(hint) if inner is not type(None))
        if dataclasses.is_dataclass(hint):
            assert not isinstance(field.default_factory, dataclasses._MISSING_TYPE)
            yield from flags_of(typing.cast("type", hint), field.default_factory())
            continue
        metavar = next((extra.metavar for extra in extras if getattr(extra, "metavar", None)), "")
        positional = any(extra in get_args(tyro.conf.Positional[str])[1:] for extra in extras)
        name = field.name

        def made_with(value: Any, name: str = name) -> object:
            return dataclasses.replace(default, **{name: value})

        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        yield Flag(name, hint, metavar, positional, required, made_with if default is not None else None)


def forms() -> dict[tuple[str, ...], list[Flag]]:
    """The flags of each verb, by the words before them; a flag of ``train`` under the first model that has it."""
    found: dict[tuple[str, ...], list[Flag]] = {}
    known: set[tuple[str, str]] = set()
    for verb in VERBS:
        if verb == "train":
            for model in MODELS:
                flags = list(flags_of(form(model)))
                shared = {flag.name for flag in flags_of(form(None))}
                found["train", model] = [flag for flag in flags if ("train", flag.name) not in known]
                known |= {("train", name) for name in shared}
            continue
        module = importlib.import_module(f"ancestral.cli.{verb.replace('list', 'listing')}")
        (kind,) = (
            kind
            for kind in vars(module).values()
            if dataclasses.is_dataclass(kind) and getattr(kind, "__module__", "") == module.__name__
        )
        found[(verb,)] = list(flags_of(typing.cast("type", kind)))
    return found


FORMS = forms()


def complete(words: tuple[str, ...], flags: list[Flag]) -> tuple[str, ...]:
    """A command that would work: RUN and AGAIN stand for run folders."""
    positional = [flag for flag in flags if flag.positional]
    values = {"data": ("table.csv",), "run": ("RUN",), "runs": ("RUN", "AGAIN")}
    given = (value for flag in positional for value in values.get(flag.name, ()))
    if words[0] == "train":
        return (*words, "table.csv", "--out", "new")
    quick = {"estimators": ("--draws", "4", "--estimators", "reparameterized")}
    return (*words, *given, *quick.get(words[0], ()))


def nearly(word: str) -> str:
    return word[:-1] + ("x" if word[-1] != "x" else "y")


def wrong_values(flag: Flag, kind: Any, several: bool) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """Words that are wrong for a type, what their answer mentions, and whether they might be right all the same.

    A verb of ``several`` runs goes on without those that it can't use, which it says.
    """
    if get_origin(kind) is Literal:
        for word in (nearly(get_args(kind)[-1]), get_args(kind)[0].upper(), ""):
            yield word, (word or flag.word,), False
    elif kind in (int, float):
        words = ("word", "", "①", "--", *(["1.5", str(HUGE)] if kind is int else ["1,5", "nan"]))
        for word in words:
            yield word, (word if word not in ("", "--") else flag.word,), False
        for word in ("-1", "0", *(["1", "inf", "-inf", "1e400"] if kind is float else [])):
            number = kind(word)
            try:
                if flag.made_with is not None:
                    flag.made_with((number,) if get_origin(flag.kind) is tuple else number)
                    continue  # it is legal
            except AncestralError:
                pass
            yield word, (word, str(number)), flag.made_with is None
    elif kind is bool:
        yield "yes", ("yes",), False
    elif flag.name == "device":
        for word in ("nonsense", "cuda:97", "①", ""):
            yield word, (word or flag.word,), several and word != ""
    elif flag.metavar == "FILE.py:NAME":
        for word in (
            "nothing", "nowhere.py:model", "file.py:model", "broken.py:model", "number.py:model", "taken.py:model",
            "table.csv:model", "file.py:", "①.py:model", "",
        ):  # fmt: skip
            yield word, (word.partition(":")[0] or flag.word,), False
    elif flag.metavar == "PATH":
        for word in ("taken", "taken.png", "file/below.png", "file/below", "a" * 300, "\udcff", ""):
            yield word, (word or flag.word, ascii(word)[1:-1]), "." not in word and len(word) < 9 and word != ""
    else:
        yield "", (flag.word,), False


NO_RUN = ("nowhere", "empty", "taken", "file", "table.csv", "a" * 300, "\udcff", "～", "")


def flag_cases() -> Iterator[Case]:
    for verb, flags in FORMS.items():
        base = complete(verb, flags)
        title = " ".join(verb)
        for flag in (flag for flag in flags if not flag.positional):
            without = base
            if flag.word in base:
                without = base[: base.index(flag.word)]
            inner = get_args(flag.kind)[0] if get_origin(flag.kind) is tuple else flag.kind
            for word, seen, may_work in wrong_values(flag, inner, any(other.name == "runs" for other in flags)):
                joined = (flag.word, word) if not word.startswith("-") else (f"{flag.word}={word}",)
                yield Case(f"{title} {flag.word} {word[:20]!r}", (*without, *joined), seen, may_work)
            wrong = nearly(flag.word)
            yield Case(f"{title} {wrong}", (*without, wrong, "1"), (wrong,))
            if inner is bool:
                yield Case(f"{title} {flag.word} twice", (*without, flag.word, flag.word), (flag.word,))
                continue
            right = str(get_args(inner)[0]) if get_origin(inner) is Literal else "1"
            twice = (flag.word, right, flag.word, right)
            yield Case(f"{title} {flag.word} twice", (*without, *twice), (flag.word,))
            if get_origin(flag.kind) is not tuple:
                yield Case(f"{title} {flag.word} without a value", (*without, flag.word), (flag.word,))
        yield Case(f"{title} with a word too many", (*base, "--1"), ("--1",))
        for flag in (flag for flag in flags if flag.positional):
            if flag.name in ("run", "runs"):
                for word in NO_RUN:
                    words = tuple(word if value == "RUN" else value for value in base)
                    yield Case(f"{title} {word[:20]!r}", words, (word or flag.name, ascii(word)[1:-1]))
                if flag.required:
                    yield Case(f"{title} without {flag.name}", verb, (flag.name.upper(), "run folders"))
                yield Case(f"{title} with one run that is none", (*base, "nowhere"), ("nowhere",))
            elif get_origin(flag.kind) is Literal:
                for word in (nearly(get_args(flag.kind)[-1]), "①", ""):
                    yield Case(f"{title} {word!r}", (*verb, word), (word or flag.name.upper(),))
            elif flag.name == "data":
                yield Case(f"{title} without data", verb, ("DATA",))
                for word in (*NO_RUN, "nowhere.csv", "mnits", "~nobody/x.csv", "①.npy", "\udcff.csv"):
                    if word not in ("table.csv", "file"):
                        words = (*verb, word, "--out", "new")
                        yield Case(f"{title} {word[:20]!r}", words, (word or "DATA", ascii(word)[1:-1]))
    for word in ("trian", "TRAIN", "", "①", "--epochs", "\udcff"):
        yield Case(f"the verb {word!r}", (word,), (repr(word), ascii(word)[1:-1]) if word else ("''",))
    models = ("vea", "VAE", "", "--epochs", "nowhere.py:model", "file.py:model", "file.py", "taken.py:model", "\udcff")
    for word in models:
        seen = (word.partition(":")[0] or "''", ascii(word)[1:-1])
        yield Case(f"the model {word!r}", ("train", word, "table.csv"), seen)


FLAG_CASES = list(flag_cases())


@pytest.mark.parametrize("case", FLAG_CASES, ids=[case.name for case in FLAG_CASES])
def test_wrong_words_are_refused(command: Any, runs: Any, tmp_path: Path, case: Case) -> None:
    check(command, with_runs(runs, tmp_path, case.words), case.seen, case.may_work)


def with_runs(runs: Any, place: Path, words: tuple[str, ...]) -> tuple[str, ...]:
    """The words, with copies of a trained run for RUN and AGAIN."""
    for word in {"RUN", "AGAIN"} & set(words):
        runs.copy("plane" if words[0] == "manifold" else "vae", place / word)
    return words


# ---- every kind of data file


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def npy(x: Any) -> bytes:
    return saved(lambda file: np.save(file, x, allow_pickle=True))


def npz(**content: Any) -> bytes:
    return saved(lambda file: np.savez_compressed(file, allow_pickle=True, **content))


def parquet(**columns: Any) -> bytes:
    return saved(lambda file: pyarrow.parquet.write_table(pyarrow.table(columns), file))


def csv(x: np.ndarray) -> bytes:
    return saved(lambda file: np.savetxt(file, x.reshape(len(x), -1), "%.17g", ","))


def claiming(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    """A .npy file of three bytes whose heading claims more."""
    heading = {"descr": descr, "fortran_order": False, "shape": shape}
    return saved(lambda file: np.lib.format.write_array_header_1_0(file, heading)) + b"abc"


def zipped(name: str, content: bytes, kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    def save(buffer: io.BytesIO) -> None:
        with zipfile.ZipFile(buffer, "w", kind) as archive:
            archive.writestr(name, content)

    return saved(save)


def picture(form: str, mode: str = "L", size: tuple[int, int] = (7, 5)) -> bytes:
    return saved(lambda file: Image.new(mode, size).save(file, form))


def claiming_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    heading = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(2**10))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", heading) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


class Unpickled:
    """Leaves a trace where a file of it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("unpickled",)


GREY = RANDOM.integers(0, 256, (11, 7, 5), dtype=np.uint8)
REALS = RANDOM.normal(size=(11, 3))
WITH_NAN, WITH_INF = (np.where(np.arange(33).reshape(11, 3) == 5, value, 1.5) for value in (np.nan, np.inf))
WHOLE = {
    "x.npy": npy(GREY),
    "x.npz": npz(x=GREY, y=np.arange(11)),
    "x.csv": b"a,b,c\n" + csv(REALS),
    "x.parquet": parquet(a=REALS[:, 0], b=REALS[:, 1]),
    "images/x.png": picture("PNG"),
    "images/x.jpg": picture("JPEG"),
    "images/x.gif": picture("GIF"),
    "images/x.bmp": picture("BMP"),
    "images/x.webp": picture("WEBP"),
}
ARRAYS: dict[str, Any] = {
    "nan": WITH_NAN,
    "infinity": WITH_INF,
    "one row": REALS[:1],
    "no rows": REALS[:0],
    "no columns": REALS[:, :0],
    "a number": np.float64(3),
    "a row": REALS[0],
    "five axes": np.zeros((2, 3, 5, 7, 11)),
    "images without height": GREY[:, :0],
    "two channels": np.zeros((11, 7, 5, 2), np.uint8),
    "levels above 255": GREY.astype(int) + 100,
    "levels below 0": GREY.astype(int) - 100,
    "complex numbers": REALS.astype(complex),
    "dates": GREY[:, 0].astype("datetime64[s]"),
    "durations": GREY[:, 0].astype("timedelta64[s]"),
    "words": REALS.astype(str),
    "bytes": REALS.astype(bytes),
    "records": np.zeros(11, [("a", "f8"), ("b", "i4")]),
    "Python objects": np.array([[Unpickled(), 1], [2, 3]], dtype=object),
    "numbers beyond single precision": REALS * 1e300,
}
BAD_FILES: dict[str, tuple[str, bytes]] = {
    f"{name} {damage}": (name, content)
    for name, whole in WHOLE.items()
    for damage, content in {
        "empty": b"",
        "of another kind": b"nothing of the kind",
        "of zeros": bytes(1000),
        **{f"cut after {part} %": whole[: len(whole) * part // 100] for part in (1, 20, 50)},
        "with another heading": bytes(byte ^ 0x55 for byte in whole[:8]) + whole[8:],
    }.items()
    if not (name.endswith((".csv", ".jpg", ".gif", ".webp", ".bmp")) and damage.startswith(("cut", "with")))
}
BAD_FILES |= {f"x.npy of {what}": ("x.npy", npy(x)) for what, x in ARRAYS.items()}
BAD_FILES |= {f"x.npz of {what}": ("x.npz", npz(x=x)) for what, x in ARRAYS.items()}
BAD_FILES |= {
    "x.npy that claims a million million rows": ("x.npy", claiming((10**12, 3))),
    "x.npy that claims more than there are numbers for": ("x.npy", claiming((10**30,))),
    "x.npy that claims rows below zero": ("x.npy", claiming((-3, 5))),
    "x.npy that claims objects": ("x.npy", claiming((3,), "|O")),
    "x.npy that is a pickle": ("x.npy", b"\x80\x04]\x94."),
    "x.npz that claims a million million rows": ("x.npz", zipped("x.npy", claiming((10**12, 3)))),
    "x.npz that is packed a thousandfold over": ("x.npz", zipped("x.npy", npy(bytes(2**22)), zipfile.ZIP_LZMA)),
    "x.npz without x": ("x.npz", npz(images=GREY)),
    "x.npz without x_test": ("x.npz", npz(x_train=GREY)),
    "x.npz with rows of two shapes": ("x.npz", npz(x_train=GREY, x_test=GREY[:, 1:])),
    "x.npz without test rows": ("x.npz", npz(x_train=GREY, x_test=GREY[:0])),
    "x.npz with too few labels": ("x.npz", npz(x=GREY, y=np.arange(10))),
    "x.npz with labels that are none": ("x.npz", npz(x=GREY, y=REALS[:, 0])),
    "x.npz with infinite labels": ("x.npz", npz(x=GREY, y=np.full(11, np.inf))),
    "x.npz with labels of one part": ("x.npz", npz(x_train=GREY, x_test=GREY, y_train=np.arange(11))),
    "x.npz with objects for labels": ("x.npz", npz(x=GREY, y=np.array([Unpickled()] * 11, dtype=object))),
    "x.csv with nan": ("x.csv", csv(WITH_NAN)),
    "x.csv with an infinity": ("x.csv", csv(WITH_INF)),
    "x.csv with a number too large": ("x.csv", b"1,2\n3,1e400\n"),
    "x.csv of one row": ("x.csv", b"1,2,3\n"),
    "x.csv of names only": ("x.csv", b"a,b,c\n"),
    "x.csv of blank lines": ("x.csv", b"\n\n \n"),
    "x.csv with a row too long": ("x.csv", b"1,2\n3,4,5\n"),
    "x.csv with a row too short": ("x.csv", b"1,2\n3\n"),
    "x.csv with a word": ("x.csv", b"a,b\n1,2\n3,four\n"),
    "x.csv with an empty cell": ("x.csv", b"a,b\n1,2\n3,\n"),
    "x.csv with full-width digits": ("x.csv", "a,b\n１,２\n３,４\n".encode()),
    "x.csv with digits in groups": ("x.csv", b"a,b\n1_000,2\n3,4\n"),
    "x.csv with decimal commas": ("x.csv", b"a;b\n1,5;2,5\n3,5;4,5\n"),
    "x.csv of more names than columns": ("x.csv", b"a,b,c\n1,2\n3,4\n"),
    "x.csv in UTF-16": ("x.csv", "a,b\n1,2\n3,4\n".encode("utf-16")),
    "x.csv in the code page of Japan": ("x.csv", "長さ,b\n1,2\n3,4\n".encode("cp932")),
    "x.csv with a zero byte": ("x.csv", b"a,b\n1,2\n3,\0\n"),
    "x.csv with a cell of a megabyte": ("x.csv", b"1,2\n3," + b"x" * 2**20 + b"\n"),
    "x.csv with a quote that never ends": ("x.csv", b'1,2\n"3,4\n5,6\n'),
    "x.parquet with nan": ("x.parquet", parquet(a=[1.0, np.nan])),
    "x.parquet with nothing in a cell": ("x.parquet", parquet(a=[1, None, 3])),
    "x.parquet of words": ("x.parquet", parquet(a=["one", "two"])),
    "x.parquet of lists": ("x.parquet", parquet(a=[[1], [2, 3]])),
    "x.parquet of one row": ("x.parquet", parquet(a=[1.5])),
    "x.parquet of no rows": ("x.parquet", parquet(a=pyarrow.array([], "f8"))),
    "x.parquet of no columns": ("x.parquet", parquet()),
    "images/x.png that claims ten thousand million pixels": ("images/x.png", claiming_png(10**5, 10**5)),
    "images/x.png that claims eighty million pixels": ("images/x.png", claiming_png(9000, 9000)),
    "images/x.png of no pixels": ("images/x.png", claiming_png(0, 5)),
    "images/x.png of another size": ("images/x.png", picture("PNG", size=(5, 7))),
    "images/x.png of 16 bits": ("images/x.png", picture("PNG", "I;16")),
    "images/x.png that is PostScript": ("images/x.png", picture("EPS")),
    "images/x.png that is TIFF": ("images/x.png", picture("TIFF")),
    "x.txt": ("x.txt", b"1,2\n3,4\n"),
    "x.pkl": ("x.pkl", b"\x80\x04]\x94."),
    "x": ("./x", b"1,2\n3,4\n"),
}  # fmt: skip
GOOD_FILES: dict[str, tuple[str, bytes]] = {
    **{f"{name} as it is": (name, whole) for name, whole in WHOLE.items()},
    "a name of other letters": ("長さ ü.csv", WHOLE["x.csv"]),
    "a name with a quote": ("it's \"x\".npy", WHOLE["x.npy"]),
    "an ending in capitals": ("x.CSV", WHOLE["x.csv"]),
    "a mark of the byte order": ("x.csv", "\ufeff".encode() + WHOLE["x.csv"]),
    "lines that end as on Windows": ("x.csv", WHOLE["x.csv"].replace(b"\n", b"\r\n")),
    "lines that end as on old Macs": ("x.csv", WHOLE["x.csv"].replace(b"\n", b"\r")),
    "semicolons": ("x.csv", WHOLE["x.csv"].replace(b",", b";")),
    "names of other letters": ("x.csv", "長さ,größe\n1,2\n3,4\n".encode()),
    "no line end at the end": ("x.csv", b"1,2\n3,4"),
    "big-endian numbers": ("x.npy", npy(REALS.astype(">f4"))),
    "columns before rows": ("x.npy", npy(np.asfortranarray(REALS))),
    "half precision": ("x.npy", npy(REALS.astype(np.float16))),
    "whole numbers for training and reals for the test": ("x.npz", npz(x_train=GREY > 99, x_test=GREY / 255)),
}
TRAIN = ("train", "vae", "--latent", "2", "--hidden", "3", "--epochs", "1", "--validation", "0", "--out", "new")


def written(name: str, content: bytes) -> tuple[str, ...]:
    """The words that train on a file, or on a folder of it and a whole image."""
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    if path.parent != Path("."):
        (path.parent / f"whole{path.suffix}").write_bytes(WHOLE[name])
    return (*TRAIN[:2], str(path.parent) if path.parent != Path(".") else name, *TRAIN[2:])


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_bad_data_file_is_refused(command: Any, what: str) -> None:
    name, content = BAD_FILES[what]
    check(command, written(name, content), (name.removeprefix("./"),))


@pytest.mark.parametrize("what", GOOD_FILES)
def test_a_file_that_is_only_unusual_is_read(command: Any, what: str) -> None:
    ended = command(*written(*GOOD_FILES[what]))
    assert (ended.status, "error" in ended.err) == (0, False), ended.err


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound(path: Path) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))


NO_FILES: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device without end": lambda path: path.symlink_to("/dev/zero"),
    "a pipe": pipe,
    "a socket": bound,
    "not to be read": lambda path: path.touch(0),
}


# A folder within a folder of images is a class.
NO_FILE = [(name, what) for name in WHOLE for what in NO_FILES if what != "a folder" or "/" not in name]


@pytest.mark.parametrize(("name", "what"), NO_FILE)
def test_what_is_no_file_is_refused(command: Any, name: str, what: str) -> None:
    words = written(name, b"")
    Path(name).unlink()
    NO_FILES[what](Path(name))
    check(command, words, (name, name.removeprefix("images/")))


# ---- the files of a named set


def idx(*shape: int, value: int = 1) -> bytes:
    return b"\0\0\x08" + bytes([len(shape)]) + np.array(shape, ">u4").tobytes() + bytes([value]) * int(np.prod(shape))


IDX = {
    "train-images-idx3-ubyte": idx(11, 28, 28),
    "train-labels-idx1-ubyte": idx(11),
    "t10k-images-idx3-ubyte": idx(3, 28, 28),
    "t10k-labels-idx1-ubyte": idx(3),
}
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
BAD_SETS: dict[str, tuple[str, bytes]] = {
    "an empty file": (IMAGES, b""),
    "a file cut short": (IMAGES, IDX[IMAGES][:-1]),
    "a heading cut short": (IMAGES, IDX[IMAGES][:7]),
    "another heading": (IMAGES, b"\0\0\x0d" + IDX[IMAGES][3:]),
    "a claim of too many images": (IMAGES, b"\0\0\x08\x03" + b"\xff" * 12 + IDX[IMAGES][16:]),
    "no images": (IMAGES, idx(0, 28, 28)),
    "one image": (IMAGES, idx(1, 28, 28)),
    "smaller images": (IMAGES, idx(11, 27, 28)),
    "images without height": (IMAGES, idx(11, 0, 28)),
    "labels for images": (IMAGES, IDX[LABELS]),
    "too few labels": (LABELS, idx(10)),
    "a label out of range": (LABELS, idx(11, value=10)),
    "what unpacks to too much": (IMAGES, bytes(2**27 + 1)),
}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("what", BAD_SETS)
def test_a_bad_file_of_a_named_set_is_refused(
    command: Any, monkeypatch: pytest.MonkeyPatch, what: str, packed: bool
) -> None:
    name, content = BAD_SETS[what]
    Path("sets/mnist").mkdir(parents=True)
    for file, whole in IDX.items():
        found = content if file == name else whole
        ending = ".gz" if packed else ""
        Path(f"sets/mnist/{file}{ending}").write_bytes(gzip.compress(found, 1) if packed else found)
    monkeypatch.setenv("ANCESTRAL_DATA", "sets")
    check(command, (*TRAIN[:2], "mnist", *TRAIN[2:]), (name, "mnist"))


# ---- the files of a run


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


RUN_DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "of another kind": lambda path: path.write_bytes(b"[]"),
    "nested without end": lambda path: path.write_bytes(b'{"a":[' * 10**5),
    "a folder": lambda path: replaced(path, Path.mkdir),
    "a pipe": lambda path: replaced(path, pipe),
}
RUN_FILES = ("config.toml", "environment.json", "metrics.jsonl", "state.json", "model.safetensors", "evaluation.json")
# Several runs are read as one is: a few damages show that all that is said of one is said there too.
RUN_CASES = [
    (verb, name, damage)
    for (verb, *_), flags in FORMS.items()
    for known in ({flag.name for flag in flags} & {"run", "runs"},)
    for name in RUN_FILES
    for damage in (RUN_DAMAGE if known == {"run"} else ("cut in half", "a folder") if known else ())
]


@pytest.mark.parametrize(("verb", "name", "damage"), RUN_CASES)
def test_a_damaged_run_is_used_or_refused_in_words(
    command: Any, runs: Any, tmp_path: Path, verb: str, name: str, damage: str
) -> None:
    words = with_runs(runs, tmp_path, complete((verb,), FORMS[(verb,)]))
    Path("RUN/evaluation.json").write_text("{}", encoding="utf-8")
    for path in list(Path("RUN").rglob(name)):
        RUN_DAMAGE[damage](path)
    limits = ("--limit", "2", "--particles", "2") if any(flag.name == "limit" for flag in FORMS[(verb,)]) else ()
    check(command, (*words, *limits), (name, "RUN"), may_work=True)


SETTINGS: dict[str, object] = {
    "a word": "many", "a fraction": 2.5, "below zero": -1, "zero": 0, "huge": HUGE, "nan": np.nan, "true": True,
    "a list": [1, "two"], "a table": {"a": 1}, "none": [],
}  # fmt: skip


@pytest.mark.parametrize("what", SETTINGS)
@pytest.mark.parametrize("verb", ["resume", "sample"])
def test_a_setting_of_the_config_that_is_wrong_is_used_or_refused_in_words(
    command: Any, runs: Any, tmp_path: Path, verb: str, what: str
) -> None:
    runs.copy("vae", tmp_path / "RUN")
    file = tmp_path / "RUN" / "config.toml"
    config = tomllib.loads(file.read_text(encoding="utf-8"))
    for table in [config, *(inner for inner in config.values() if isinstance(inner, dict))]:
        for key, value in list(table.items()):
            table[key] = SETTINGS[what]
            file.write_text(tomli_w.dumps(config), encoding="utf-8")
            check(command, (verb, "RUN"), (key, "RUN"), may_work=True)
            table[key] = value


def test_the_matrix_is_as_large_as_it_was_meant_to_be() -> None:
    assert len(FLAG_CASES) > 800
    assert set(VERBS) == {words[0] for words in FORMS}
