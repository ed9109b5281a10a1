"""Commands about models: train, rank, evaluate, predict, and the registry."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import msgspec

from detectors.registry import Registry
from detectors.store import open_store
from orchestration.approvals import decide_about
from orchestration.cli_lines import local_actor
from orchestration.console import DONE, NO, Answer, Console, command
from orchestration.options import config_of, model_options, settings
from streams.ledger import Ledger
from streams.lineage import affected_versions, version_story
from streams.lineage_words import version_words

_group = click.Group("_")


def register(driftline: click.Group) -> None:
    """Put these commands under `driftline`."""
    for each in (train, blind, evaluate, sweep, predict, models):
        driftline.add_command(each)


@command(_group, "driftline train images/good --line press-4/door --detector patchcore")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--line", required=True)
@click.option("--report", type=click.Path(path_type=Path), help="An HTML file: images that look like intruders.")
@model_options
def train(console: Console, folder: Path, line: str, report: Path | None, **options: Any) -> Answer:
    """A trusted model from a folder of normal images, published as a version of the line; says which look bad."""
    # Imported here, as in the commands below, to keep torch out of the ones that need none of it.
    from orchestration import screening
    from orchestration.offline import train_line

    config = config_of(options, detector="patchcore")
    trained = train_line(folder, line, config, store=open_store(settings().store), watcher=console)
    found, scores = screening.screened(trained.model, trained.paths, config, told=console.told)
    if report is not None:
        report.write_text(screening.report(found, scores, f"{line}: images that look like intruders"))
    version, champion = trained.version, trained.pointers.champion
    serving = " (in service)" if champion == version else f"; `driftline models promote {line}@{version}` serves it"
    return Answer(
        {"line": line, "version": version, "champion": champion, "screening": found},
        "\n".join(filter(None, (screening.words(found), f"{line}@{version} published{serving}"))),
    )


@command(_group, "driftline blind images/unsorted --json")
@click.argument("folder", type=click.Path(path_type=Path))
@model_options
def blind(console: Console, folder: Path, **options: Any) -> Answer:
    """Rank an unlabelled folder, worst first; needs no server."""
    from orchestration.offline import rank_folder

    ranking = rank_folder(folder, config_of(options, detector="patchcluster"), watcher=console)
    lines = [f"{each.score:10.4f} {'FLAGGED' if each.flagged else '       '} {each.path}" for each in ranking.images]
    return Answer(ranking, "\n".join([*lines, f"{len(ranking.images)} images in {ranking.seconds:.1f} s"]))


@command(_group, "driftline evaluate datasets/cookie --detector patchcore --report cookie.html")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--report", type=click.Path(path_type=Path), help="An HTML file to write: figures, curves, worst images.")
@click.option("--recall", type=float, help="Also the threshold that this share of unseen defects will exceed.")
@model_options
def evaluate(console: Console, folder: Path, report: Path | None, recall: float | None, **options: Any) -> Answer:
    """Judge a detector on a folder in MVTec layout."""
    from orchestration import evaluation_report
    from orchestration.offline_evaluation import evaluate_folder

    config = config_of(options, detector="patchcore")
    judgement = evaluate_folder(folder, config, recall=recall, watcher=console)
    if report is not None:
        report.write_text(evaluation_report.report(judgement, f"{folder.name}: {judgement.evaluation.detector}"))
    rows = msgspec.structs.asdict(judgement.evaluation).items()
    return Answer(judgement.evaluation, "\n".join(f"{name:18} {value}" for name, value in rows))


@command(_group, "driftline sweep datasets/cookie --vary backbone=resnet18,efficientnet_lite0 --vary bank=1000,4000")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--vary", multiple=True, required=True, help="NAME=VALUE,VALUE; layers as block2+block4. Again for more.")
@click.option("--report", type=click.Path(path_type=Path), help="An HTML file to write: the chart and the table.")
@model_options
def sweep(console: Console, folder: Path, vary: tuple[str, ...], report: Path | None, **options: Any) -> Answer:
    """Judge a folder in MVTec layout under many settings: which are best in accuracy, time and memory."""
    from orchestration import sweep as sweeping

    fixed = [text for name, value in options.items() if value is not None for text in (_option(name), str(value))]
    points = sweeping.sweep(folder, fixed, sweeping.varied(vary), watcher=console)
    if report is not None:
        report.write_text(sweeping.report(points, f"{folder.name}: accuracy, time and memory"))
    rows = [
        f"{'front ' if each.front else '      '} AUROC {each.image_auroc:.4f} (lowest {each.lowest_auroc:.4f}) "
        f"{each.ms_per_image:7.1f} ms {each.memory_bytes / 2**20:6.0f} MiB  {sweeping.words(each.setting)}"
        for each in points
    ]
    return Answer({"points": points}, "\n".join(rows))


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


@command(_group, "driftline predict press-4/door@champion part.jpg --heatmaps out")
@click.argument("model")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--heatmaps", type=click.Path(path_type=Path), help="A folder for heatmaps over the images.")
@click.option("--weights", type=click.Path(path_type=Path), help="A file with the backbone's weights.")
def predict(
    console: Console, model: str, images: tuple[Path, ...], heatmaps: Path | None, weights: Path | None
) -> Answer:
    """Score files (or folders of files) with a version: L@champion, L@3, or a folder with an artefact."""
    from orchestration.offline import predict_files

    predictions = predict_files(model, images, settings(), heatmaps=heatmaps, weights=weights, watcher=console)
    rows = [f"{each.score:10.4f} {'FLAGGED' if each.flagged else '       '} {each.path}" for each in predictions.images]
    return Answer(predictions, "\n".join(rows))


@click.group()
def models() -> None:
    """The registry of model versions."""


def _registry() -> Registry:
    return Registry(open_store(settings().store))


@command(models, "driftline models list --line press-4/door", name="list")
@click.option("--line", help="Only this line.")
def models_list(console: Console, line: str | None) -> Answer:
    """Lines, their versions, which are champion, challenger and previous, and which learnt from what people call defects now."""
    registry, ledger = _registry(), Ledger.open(settings().ledger)
    rows = [
        {
            "line": each,
            "versions": registry.versions(each),
            **_pointers(registry, each),
            "affected": {version: len(images) for version, images in affected_versions(ledger, registry, each).items()},
        }
        for each in ([line] if line else registry.lines())
    ]
    text = "\n".join(map(_listed, rows))
    return Answer({"lines": rows}, text or "no models yet; `driftline train DIR --line L` makes one")


def _listed(row: dict[str, Any]) -> str:
    affected = ", ".join(f"{version} ({count} images)" for version, count in row["affected"].items())
    warning = f"; AFFECTED, having learnt from what stands as defects now: {affected}" if affected else ""
    return f"{row['line']}: versions {row['versions']}, champion {row['champion']}{warning}"


@command(models, "driftline models show press-4/door@champion", name="show")
@click.argument("model")
@click.option("--card", is_flag=True, help="The model card, as Markdown.")
def models_show(console: Console, model: str, card: bool) -> Answer:
    """One version: where it comes from, what it learnt from, its figures, and what became of it."""
    from streams.model_card import kept_card
    from streams.stored_calibration import in_words

    store = open_store(settings().store)
    registry = Registry(store)
    line, version = registry.resolve(model)
    story = version_story(Ledger.open(settings().ledger), registry, line, version)
    text = kept_card(store, story)
    data = {each.name: getattr(story, each.name) for each in fields(story)} | {"card": text}
    if card:
        return Answer(data, text)
    threshold = story.manifest.threshold
    lines = [
        f"{line}@{version} {' '.join(story.marks)}".rstrip() + ":",
        *version_words(story),
        f"calibrated for {threshold.false_alarm_rate:.1%} false alarms ({threshold.low:.1%} to {threshold.high:.1%})",
        f"drift watch: {in_words(story.manifest.calibration, story.manifest.reference)}",
    ]
    return Answer(data, "\n  ".join(lines))


@command(models, 'driftline models promote press-4/door@3 --why "new lamps"', name="promote")
@click.argument("model")
@click.option("--why", default="by hand", help="The reason, for the audit trail.")
def models_promote(console: Console, model: str, why: str) -> Answer:
    """Put a version into service; every scorer follows within seconds."""
    from orchestration.offline import change_champion

    registry = _registry()
    line, version = registry.resolve(model)
    promoted = change_champion(settings(), local_actor(), line, version=version, why=why)
    return Answer(promoted, f"{line}@{promoted.version} in service, {promoted.previous} is the previous one")


@command(models, 'driftline models approve press-4/door@3 --why "finds the new scratch"', name="approve")
@click.argument("model")
@click.option("--why", required=True, help="The reason, for the audit trail.")
def models_approve(console: Console, model: str, why: str) -> Answer:
    """Agree to a version that a request made; it goes into service once enough people have (two where the line wants four eyes)."""
    decided = decide_about(settings(), local_actor(), *_registry().resolve(model), approves=True, why=why)
    serving = "in service" if decided.champion == decided.version else "approved, and waits for a second person"
    return Answer(decided, f"{decided.line}@{decided.version} {serving}")


@command(models, 'driftline models reject press-4/door@3 --why "misses scratches"', name="reject")
@click.argument("model")
@click.option("--why", required=True, help="The reason, for the audit trail.")
def models_reject(console: Console, model: str, why: str) -> Answer:
    """Refuse a version that a request made: it scores beside the champion no more."""
    decided = decide_about(settings(), local_actor(), *_registry().resolve(model), approves=False, why=why)
    return Answer(decided, f"{decided.line}@{decided.version} rejected, version {decided.champion} stays in service")


@command(models, 'driftline models rollback press-4/door --why "flags good parts"', name="rollback")
@click.argument("line")
@click.option("--why", default="by hand", help="The reason, for the audit trail.")
def models_rollback(console: Console, line: str, why: str) -> Answer:
    """Back to the previous version."""
    from orchestration.offline import change_champion

    promoted = change_champion(settings(), local_actor(), line, version=None, why=why)
    return Answer(promoted, f"{line}@{promoted.version} in service again")


@command(models, "driftline models verify press-4/door@champion", name="verify")
@click.argument("model")
def models_verify(console: Console, model: str) -> Answer:
    """Digests of a version's files against its manifest; status 1 if one does not agree."""
    registry = _registry()
    line, version = registry.resolve(model)
    problems = registry.verify(line, version)
    text = "\n".join(problems) or f"{line}@{version}: every file agrees with its manifest"
    return Answer({"line": line, "version": version, "problems": problems}, text, NO if problems else DONE)


def _pointers(registry: Registry, line: str) -> dict[str, int | None]:
    pointers = registry.pointers(line)
    return {"champion": pointers.champion, "challenger": pointers.challenger, "previous": pointers.previous}
