"""Makes the data set from the films' results: some held out, paths balanced; writes manifest, ledger and plot."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from model.curation.balance import BalanceConfig, PathDescription, describe, plot_balance, prune
from model.curation.film_folder import FilmFolder
from model.curation.ledger import LedgerLine, write_ledger
from model.data.manifest import ClipRecord, Manifest
from model.fingerprint import fingerprint

HELD_OUT = "held_out"  # a data set of its own, inside the data set


@dataclass(kw_only=True)
class PublishConfig:
    """What is done with all clips together; it may change from run to run, because every run repeats it.

    Attributes:
        cap: Most paths per category; the most important ones stay; 0: all.
        held_out: Share of the films with clips that go, whole and unpruned, into the data set `held_out/`; chosen by a
            digest of the film's id, so that new films do not move old ones to the other side.
        paths: How paths are described.

    Raises:
        ValueError: a setting is out of its range.
    """

    cap: int = 1000
    held_out: float = 0.0
    paths: BalanceConfig = field(default_factory=BalanceConfig)

    def __post_init__(self) -> None:
        """Rejects settings that cannot be published, before films are processed."""
        if self.cap < 0:
            raise ValueError(f"publish.cap: expected 0 (all) or more, got {self.cap}")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"publish.held_out: expected a share of at least 0 and below 1, got {self.held_out}")


def publish(out: str | Path, config: PublishConfig) -> list[LedgerLine]:
    """Writes `OUT/manifest.jsonl`, `cameras/`, `ledger.jsonl`, `balance.png`, and `OUT/held_out` if films are held out.

    Returns the ledger, with the lines of held-out films.

    The result depends on what `OUT/work` holds, not on the order in which it was written.
    """
    out = Path(out)
    folders = sorted((folder for folder in (out / "work").iterdir() if folder.is_dir()), key=lambda folder: folder.name)
    chosen = held_out_films([folder.name for folder in folders if FilmFolder(folder).records()], config.held_out)
    training = [folder for folder in folders if folder.name not in chosen]
    held_out = [folder for folder in folders if folder.name in chosen]
    records, lines = _gather(training)
    paths = {r.id: describe(r.camera.c2w, config.paths) for r in records if r.camera is not None}
    kept, removed = prune(paths, config.cap) if config.cap else (list(paths), [])
    gone = set(removed)
    Manifest(out).replace(record for record in records if record.id not in gone)
    _write_held_out(out / HELD_OUT, held_out)
    final = [_pruned(line, paths[line.id], config.cap) if line.id in gone else line for line in lines]
    final += _gather(held_out)[1]
    write_ledger(out / "ledger.jsonl", final)
    if paths:
        plot_balance(out / "balance.png", paths, kept)
    return final


def held_out_films(films: Iterable[str], share: float) -> set[str]:
    """Returns the ids of the held-out films: at least one of two or more films if share > 0, and never all."""
    draws = {film: int(fingerprint(f"held out {film}")[:16], 16) for film in films}
    chosen = {film for film, draw in draws.items() if draw < share * 2**64}
    if share > 0 and len(draws) > 1 and not chosen:
        chosen.add(min(draws, key=lambda film: draws[film]))
    if chosen and len(chosen) == len(draws):
        chosen.remove(max(draws, key=lambda film: draws[film]))
    return chosen


def ledger_table(lines: Iterable[LedgerLine]) -> str:
    """Returns the number of clips, and the seconds they took, by verdict and last step, as Markdown."""
    counts: Counter[tuple[str, str]] = Counter()
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    for line in lines:
        counts[(line.verdict, line.step)] += 1
        seconds[(line.verdict, line.step)] += sum(line.seconds.values())
    rows = [
        f"| {verdict} | {step} | {counts[(verdict, step)]} | {seconds[(verdict, step)]:.1f} |"
        for verdict, step in sorted(counts)
    ]
    return "\n".join(["| verdict | last step | clips | seconds |", "| --- | --- | --- | --- |", *rows])


def _gather(folders: list[Path]) -> tuple[list[ClipRecord], list[LedgerLine]]:
    films = [FilmFolder(folder) for folder in folders]
    return [r for film in films for r in film.records()], [line for film in films for line in film.lines()]


def _write_held_out(folder: Path, films: list[Path]) -> None:
    if films or (folder / "manifest.jsonl").exists():
        Manifest(folder).replace(_gather(films)[0])


def _pruned(line: LedgerLine, path: PathDescription, cap: int) -> LedgerLine:
    primary, turn = path.category
    reason = f"more than {cap} paths are {primary} with turn {turn}; this one's importance is {path.importance:.2f}"
    return dataclasses.replace(line, verdict="rejected", step="balance", reason=reason)
