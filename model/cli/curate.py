"""`python -m model.cli.curate videos=FOLDER out=DATASET`: from a folder of ordinary films to metric camera labels.

Other verbs: `import` and `export` (existing data sets), `proof` (its accuracy on films whose truth is known),
`pictures` (what every step saw of one film). Each has its own `--help`.
"""

import itertools
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING

from configs.command_line import hydra_command
from model.curation.exchange import DataSetConfig, export_clips, import_clips, read_data_set
from model.curation.ledger import LedgerLine
from model.curation.pipeline import CurationConfig, MakeTools, curate_films
from model.curation.proof import ProofConfig, proof_tables, prove
from model.curation.publish import HELD_OUT, PublishConfig, ledger_table, publish
from model.curation.shots import read_clips
from model.curation.step_pictures import step_pictures
from model.curation.tools import build_tools
from model.data.manifest import Manifest
from model.estimators.sfm import ReconstructionFailed
from model.file_lock import lock_folder
from model.whole_file import write_text


@dataclass(kw_only=True)
class DataSetCommandConfig(CurationConfig):
    """Settings of the commands that make a data set.

    Attributes:
        out: The data set's folder.
        num_workers: Processes.
        backend: joblib's: loky (this machine) or ray (a cluster).
        publish: What is done with all clips together.
    """

    out: str = MISSING
    num_workers: int = 1
    backend: str = "loky"
    publish: PublishConfig = field(default_factory=PublishConfig)


@dataclass(kw_only=True)
class CurateConfig(DataSetCommandConfig):
    """`python -m model.cli.curate`; `videos` is the folder of films, or one film."""

    videos: str = MISSING


@dataclass(kw_only=True)
class ImportConfig(DataSetConfig, DataSetCommandConfig):
    """`python -m model.cli.curate import`; films (kind=films) are cut, not labelled."""


@dataclass(kw_only=True)
class ExportConfig:
    """`python -m model.cli.curate export`; see `model.curation.exchange.export_clips`."""

    data: str = MISSING
    kind: str = MISSING
    out: str = MISSING
    height: int = 0
    width: int = 0


@dataclass(kw_only=True)
class PicturesConfig(CurationConfig):
    """`python -m model.cli.curate pictures`: one film, the number of its clip, and a folder."""

    film: str = MISSING
    clip: int = 0
    out: str = "runs/curate/pictures"


def curate(config: CurateConfig) -> list[LedgerLine]:
    """Runs (or resumes) the whole pipeline, prints the ledger's table, and says what was written."""
    with lock_folder(config.out):
        _curate_films(config, config.videos, build_tools)
        return _publish(config.out, config.publish)


def import_data_set(config: ImportConfig) -> list[LedgerLine]:
    """Adds an existing data set, or films without a camera, to the data set `out`."""
    with lock_folder(config.out):
        match config.kind:
            case "films":
                _curate_films(config, config.path, None)
            case "realestate10k" | "colmap" | "nerfstudio" as kind:
                import_clips(config.out, kind, *read_data_set(config))
            case kind:
                raise ValueError(f"kind: expected films, realestate10k, colmap or nerfstudio, got {kind!r}")
        return _publish(config.out, config.publish)


def _curate_films(config: DataSetCommandConfig, films: str, make_tools: MakeTools | None) -> None:
    # only the pipeline's own settings, which are kept beside its results
    settings = CurationConfig(**{name: getattr(config, name) for name in CurationConfig.__dataclass_fields__})
    workers, backend = config.num_workers, config.backend
    curate_films(films, config.out, settings, num_workers=workers, backend=backend, make_tools=make_tools)


def export_data_set(config: ExportConfig) -> int:
    """Writes the cameras of the data set `data` in another format."""
    with lock_folder(config.out):
        match config.kind:
            case "realestate10k" | "colmap" as kind:
                count = export_clips(config.data, kind, config.out, config.height, config.width)
            case kind:
                raise ValueError(f"kind: expected realestate10k or colmap, got {kind!r}")
    print(f"written: {count} clips to {config.out}")
    return count


def prove_curation(config: ProofConfig) -> None:
    """Runs the pipeline on films whose truth is known; writes `proof.json` and `proof.md`, and prints the tables."""
    out = Path(config.out)
    with lock_folder(out):
        report = prove(config)
        tables = proof_tables(report)
        write_text(out / "proof.json", json.dumps(report, indent=1))
        write_text(out / "proof.md", tables)
    print(tables)
    print(f"written: {out / 'proof.md'} {out / 'proof.json'} {out / 'balance.png'}")


def draw_pictures(config: PicturesConfig) -> None:
    """Writes what every step saw of one clip of a film.

    Raises:
        ValueError: the film has no such clip, or it has no poses.
    """
    clip = next(itertools.islice(read_clips(config.film, config.shots), config.clip, None), None)
    if clip is None:
        raise ValueError(f"clip: expected the number of a clip of {config.film}, from 0, got {config.clip}")
    try:
        files = step_pictures(config.out, clip, build_tools(config.tools), config.steps)
    except ReconstructionFailed as error:
        raise ValueError(f"film: expected poses, got {error}; flow and mask are in {config.out}") from error
    print(f"written: {' '.join(map(str, files))}")


def _publish(out: str, config: PublishConfig) -> list[LedgerLine]:
    lines = publish(out, config)
    print(ledger_table(lines))
    if reason := next((line.reason for line in lines if line.verdict == "rejected" and line.reason), None):
        print(f"the first rejected one: {reason} (all reasons: {Path(out) / 'ledger.jsonl'})")
    metric = sum(record.scale is not None for record in Manifest(out))
    held_out = len(Manifest(Path(out) / HELD_OUT))
    print(
        f"written: {out}, {len(Manifest(out))} clips, {metric} of them with metric poses"
        + (f"; {held_out} clips are held out" if held_out else "")
    )
    return lines


curate_main = hydra_command("configs.curate", "run", CurateConfig, curate)
VERBS = {
    "import": hydra_command("configs.curate", "import", ImportConfig, import_data_set),
    "export": hydra_command("configs.curate", "export", ExportConfig, export_data_set),
    "proof": hydra_command("configs.curate", "proof", ProofConfig, prove_curation),
    "pictures": hydra_command("configs.curate", "pictures", PicturesConfig, draw_pictures),
}


def main() -> None:
    """Dispatches on the first word; without a verb it runs the pipeline."""
    if sys.argv[1:2] and sys.argv[1] in VERBS:
        VERBS[sys.argv.pop(1)]()
    else:
        curate_main()


if __name__ == "__main__":
    main()
