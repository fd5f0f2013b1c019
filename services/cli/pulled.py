"""Models on this machine: GGUF files under the data folder's `models/`, named as on the hub. It downloads nothing."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from services.cli.problem import UsageProblem

ENDING = ".gguf"
# A model's file in several parts; llama.cpp is given the first and finds the others.
_PART = re.compile(r"-(\d{5})-of-(\d{5})$")
_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:.+)?$")


@dataclass(frozen=True, slots=True)
class ModelName:
    """`org/repo`, and after a colon the file's name or its quantisation; empty where none is given."""

    repo: str
    choice: str

    def __str__(self) -> str:
        return f"{self.repo}:{self.choice}" if self.choice else self.repo


@dataclass(frozen=True, slots=True)
class Weights:
    """One model of a repository: its files in order, one or several parts, relative to the repository."""

    files: tuple[str, ...]

    @property
    def title(self) -> str:
        """The file's name without its part and ending."""
        return _PART.sub("", PurePosixPath(self.files[0]).name.removesuffix(ENDING))


def parse(name: str) -> ModelName:
    """Raises UsageProblem where it is no name of the hub."""
    repo, _, choice = name.partition(":")
    if not _NAME.match(name):
        raise UsageProblem(f"{name!r} names no model: write org/repo, or org/repo:Q4_K_M, or org/repo:FILE.gguf")
    return ModelName(repo, choice)


def looks_like_name(text: str) -> bool:
    """Whether it could be a name of the hub rather than a path."""
    return bool(_NAME.match(text)) and not Path(text).exists()


def grouped(files: Iterable[str]) -> list[Weights]:
    """The models among a repository's files, parts together, by name; what projects images is none."""
    found: dict[str, list[str]] = {}
    for file in sorted(files):
        name = PurePosixPath(file).name
        if name.lower().endswith(ENDING) and not name.lower().startswith("mmproj"):
            found.setdefault(_PART.sub("", file[: -len(ENDING)]), []).append(file)
    return [Weights(tuple(parts)) for parts in found.values()]


def choose(models: Sequence[Weights], name: ModelName) -> Weights:
    """The one that the name means. Raises UsageProblem that lists them where it is none, or several."""
    fitting = [model for model in models if _fits(model, name.choice)]
    if len(fitting) == 1:
        return fitting[0]
    listed = "\n".join(f"  {name.repo}:{model.title}{ENDING}" for model in fitting or models)
    if not models:
        raise UsageProblem(f"{name.repo} has no GGUF file, which is what llama.cpp reads")
    if not fitting:
        raise UsageProblem(f"{name.repo} has no file that fits {name.choice!r}; it has\n{listed}")
    raise UsageProblem(f"{name} could be several files; name one of\n{listed}")


def _fits(model: Weights, choice: str) -> bool:
    """By file or by quantisation, whichever way its letters are written."""
    wanted, title = choice.lower().removesuffix(ENDING), model.title.lower()
    if not wanted or wanted in (title, model.files[0].lower().removesuffix(ENDING)):
        return True
    return re.search(rf"(^|[-._]){re.escape(wanted)}$", title) is not None


def models_dir(data_dir: Path) -> Path:
    """Where pulled models are kept."""
    return data_dir / "models"


def pulled(data_dir: Path) -> list[tuple[str, Weights]]:
    """Repository and model of everything that was pulled whole, by name."""
    root = models_dir(data_dir)
    found: dict[str, list[str]] = {}
    for path in root.glob(f"*/*/**/*{ENDING}"):
        org, repo, *rest = path.relative_to(root).parts
        if not org.startswith("."):
            found.setdefault(f"{org}/{repo}", []).append("/".join(rest))
    return [(repo, model) for repo, files in sorted(found.items()) for model in grouped(files)]


def find(text: str, data_dir: Path) -> Path:
    """The file of a pulled model. Raises UsageProblem where there is none, or it could be several."""
    name = parse(text)
    models = [model for repo, model in pulled(data_dir) if repo == name.repo]
    if not any(_fits(model, name.choice) for model in models):
        raise UsageProblem(
            f"{text}: there is no such model file, and no such model here: get it with\n  weft models pull {text}"
        )
    return models_dir(data_dir) / name.repo / choose(models, name).files[0]
