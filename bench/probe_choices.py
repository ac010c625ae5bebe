"""How the settings of the probe were chosen: the table in the notebook `probe`.

    python bench/probe_choices.py [PHOTOS] [--seeds 42 43]

Compared in grouped 5-fold cross-validation, temperature fitted out of fold, averaged over the seeds: squares of 7/8 of the shorter
side or all of it, at 224 or 256 pixels; embeddings square-rooted and L2-normalised (sqrt_l2), L2-normalised (l2) or as they are
(none); strengths; classes weighted to count alike (balanced) or not. The first run embeds all photos four times (a few minutes),
later ones take embeddings from the cache.

PHOTOS holds styles8/, or the class folders themselves.
"""
import time

import numpy as np
from timing import parser, print_machine, print_table, styles8

from archclf.classifier import Backbone, read_model, softmax, transform
from archclf.dataset import deal, scan_photos
from archclf.embed import embed_photos
from archclf.metrics import class_report, expected_calibration_error, predictions_table
from archclf.probe import fit_heads, fit_temperature

FOLDS = 5
SQUARES = (.875, 224), (1., 224), (.875, 256), (1., 256)
HEADS = [(kind, strength, balanced) for kind in ('sqrt_l2', 'l2') for strength, balanced in ((3, False), (10, False), (30, False), (10, True))]
HEADS.append(('none', .03, False))


def transformed(embeddings, kind):
    if kind == 'l2': return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    return transform(embeddings, kind)


def out_of_fold(inputs, codes, fold, strength, balanced):
    "Logits of each photo from the fit that did not learn from it."
    weight = (len(codes) / np.bincount(codes) / (codes.max() + 1))[codes] if balanced else np.ones(len(codes))
    counts = np.column_stack([(fold != number) * weight for number in range(FOLDS)])
    weights, biases = fit_heads(inputs, codes, counts, strength)
    logits = np.empty((len(inputs), weights.shape[1]))
    for number in range(FOLDS): logits[fold == number] = inputs[fold == number] @ weights[number].T + biases[number]
    return logits


def scores(photos, inputs, strength, balanced, seed):
    labels = sorted(set(photos.label))
    codes, fold = np.searchsorted(labels, photos.label), (deal(photos.label, photos.group, seed) * FOLDS).astype(int)
    logits = out_of_fold(inputs, codes, fold, strength, balanced)
    predictions = predictions_table(photos.path, photos.label, softmax(logits / fit_temperature(logits, codes)), labels, fold=fold)
    right = (predictions.label == predictions.predicted).mean()
    return right, class_report(predictions).recall.mean(), predictions.loss.mean(), expected_calibration_error(predictions)


def main(folder, seeds):
    print_machine()
    start, backbone, rows = time.perf_counter(), read_model()[1]['backbone.onnx'], []
    photos, _ = scan_photos(folder)
    for crop, size in SQUARES:
        embeddings = embed_photos(photos, Backbone(backbone, size, crop))
        for kind, strength, balanced in HEADS:
            inputs = transformed(embeddings, kind)
            accuracy, recall, loss, calibration = np.mean([scores(photos, inputs, strength, balanced, seed) for seed in seeds], axis=0)
            rows.append([f"{'7/8' if crop < 1 else 'whole'}, {size} px", f"{kind}{', balanced' if balanced else ''}", strength,
                         f'{accuracy:.1%}', f'{recall:.1%}', f'{loss:.3f}', f'{calibration:.3f}'])
    header = ['square', 'transform', 'strength', 'accuracy', 'macro recall', 'log loss', 'calibration error']
    print_table(f'{len(photos)} photos, {FOLDS} folds, seeds {" ".join(map(str, seeds))}', header, rows, left=2)
    print(f'{time.perf_counter() - start:.0f} s; one standard error of an accuracy near 0.9 is {(.9 * .1 / len(photos)) ** .5:.1%}')


if __name__ == '__main__':
    parser = parser(__doc__)
    parser.add_argument('--seeds', type=int, nargs='+', default=[42, 43])
    arguments = parser.parse_args()
    main(styles8(arguments.photos), arguments.seeds)
