"""An evaluation as one HTML file that needs nothing else: figures, ROC, histogram, and the images it got most wrong."""

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from detectors.images import decode
from detectors.model import heatmap
from orchestration.html_report import document, figure, row, table
from orchestration.offline_evaluation import GOOD, Judged, Judgement

WORST = 12
"""Misses, and false alarms, that are shown."""

BINS = 40


def report(judgement: Judgement, title: str) -> str:
    """The report; the images are read again from their files."""
    found = judgement.evaluation
    parts = [
        f"<p>{escape(found.detector)} on {escape(found.backbone)} ({escape(found.runtime)}), {found.image_size} px, "
        f"{found.images} test images, fitted in {found.fit_s:.1f} s, {found.ms_per_image:.0f} ms an image.</p>",
        *(f"<p>{escape(note)}</p>" for note in found.notes),
        "<h2>Figures</h2>",
        _figures(judgement),
        "<h2>Kinds of defects</h2>",
        _kinds(judgement),
        "<h2>How the scores tell good from bad</h2>",
        row([_roc(judgement), _histogram(judgement)]),
        "<h2>Worst misses: defects with the lowest scores</h2>",
        _pictures(worst_misses(judgement), judgement),
        "<h2>Worst false alarms: good images with the highest scores</h2>",
        _pictures(worst_false_alarms(judgement), judgement),
    ]
    return document(title, parts)


def worst_misses(judgement: Judgement) -> list[Judged]:
    """Defects by ascending score, those below the threshold first of all."""
    return sorted((each for each in judgement.images if each.kind != GOOD), key=lambda each: each.score.peak)[:WORST]


def worst_false_alarms(judgement: Judgement) -> list[Judged]:
    """Good images by descending score."""
    return sorted((each for each in judgement.images if each.kind == GOOD), key=lambda each: -each.score.peak)[:WORST]


def _figures(judgement: Judgement) -> str:
    found = judgement.evaluation
    named = {
        "image AUROC": ("image_auroc", found.image_auroc),
        "AUPR": ("aupr", found.aupr),
        "F1-max": ("f1_max", found.f1_max),
        f"recall at {judgement.threshold.false_alarm_rate:.1%} false alarms": ("recall_at_rate", found.recall_at_rate),
        "pixel AUROC": ("", found.pixel_auroc),
        "AUPRO (to 30 % false positives)": ("", found.aupro),
        "recall at the threshold": ("", found.recall),
        "false alarms at the threshold": ("", found.false_alarm_rate),
    }
    rows = [(name, _number(value), _interval(found.intervals.get(key))) for name, (key, value) in named.items()]
    named_pixels = {
        "share of good pixels over the pixel threshold": found.pixel_false_alarm_rate,
        "share of defect pixels over it": found.pixel_recall,
    }
    rows += [(name, _number(value), "") for name, value in named_pixels.items()]
    rows.append(("threshold", f"{found.threshold:.4g}", ""))
    if (made := found.for_recall) is not None:
        rows.append((f"threshold for a recall of {made.recall:.1%}", f"{made.value:.4g}", ""))
        rows.append(("recall it will obtain", "", f"{made.low:.3f} to {made.high:.3f}"))
    stated = judgement.threshold
    rows.append(("false alarms it states", f"{stated.false_alarm_rate:.1%}", f"{stated.low:.2%} to {stated.high:.2%}"))
    return table(("figure", "value", "95 % interval"), rows)


def _kinds(judgement: Judgement) -> str:
    rows = [
        (name, str(kind.images), _number(kind.image_auroc), _number(kind.recall))
        for name, kind in judgement.evaluation.kinds.items()
    ]
    return table(("kind", "images", "image AUROC", "recall at the threshold"), rows)


def _roc(judgement: Judgement) -> str:
    labels, peaks = _labels(judgement)
    if labels.all() or not labels.any():
        return "<p>No ROC curve: it needs good and bad test images.</p>"
    false, true, _ = roc_curve(labels, peaks)
    points = " ".join(f"{40 + 280 * x:.1f},{300 - 280 * y:.1f}" for x, y in zip(false, true, strict=True))
    return (
        '<svg width="480" height="340" role="img" aria-label="ROC curve">'
        '<path d="M40 20V300H320M40 300L320 20" fill="none" stroke="#c3c9d1"/>'
        f'<polyline points="{points}" fill="none" stroke="#0b62d6" stroke-width="2.5"/>'
        '<text x="110" y="325">share of good images flagged</text><text x="44" y="14">share of defects flagged</text></svg>'
    )


def _histogram(judgement: Judgement) -> str:
    labels, peaks = _labels(judgement)
    threshold = judgement.evaluation.threshold
    low, high = float(min(peaks.min(), threshold)), float(max(peaks.max(), threshold))
    span = max(high - low, 1e-9)
    bars = []
    for kind, colour in ((False, "#2a9d5c"), (True, "#d1345b")):
        counts, _ = np.histogram(peaks[labels == kind], bins=BINS, range=(low, low + span))
        tallest = max(int(counts.max()), 1)
        for place, count in enumerate(counts):
            if count:
                tall = 260 * count / tallest
                bars.append(
                    f'<rect x="{30 + place * 420 / BINS:.1f}" y="{300 - tall:.1f}" width="{400 / BINS:.1f}" '
                    f'height="{tall:.1f}" fill="{colour}" opacity=".6"/>'
                )
    mark = 30 + 420 * (threshold - low) / span
    return (
        f'<svg width="480" height="340" role="img" aria-label="Histogram of scores">{"".join(bars)}'
        f'<path d="M{mark:.1f} 20V300" stroke="#1a1f26" stroke-dasharray="4 3"/>'
        f'<text x="{min(mark + 4, 390):.1f}" y="16">threshold</text><text x="30" y="318">{low:.3g}</text>'
        f'<text x="420" y="318">{high:.3g}</text><text x="110" y="335">image score; green good, red defects, '
        "each to its tallest bar</text></svg>"
    )


def _pictures(worst: Sequence[Judged], judgement: Judgement) -> str:
    return row([_figure(each, judgement.evaluation.threshold) for each in worst])


def _figure(judged: Judged, threshold: float) -> str:
    image = decode(judged.path.read_bytes())
    said = "flagged" if judged.score.peak > threshold else "not flagged"
    shown = heatmap(image, judged.score.map_HW, threshold)
    caption = f"{judged.kind}/{judged.path.name}: score {judged.score.peak:.3g}, {said}"
    return figure([(image, "the image"), (shown, "its heatmap")], caption)


def _labels(judgement: Judgement) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    labels = np.array([each.kind != GOOD for each in judgement.images])
    return labels, np.array([each.score.peak for each in judgement.images])


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
