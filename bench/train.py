"""From photos to a model folder: `archclf train` as a whole process, against the plain fastai recipe.

    python bench/train.py [PHOTOS] [--rounds 3] [--rerun RECIPE.py]

Compared: `archclf train` with an empty cache (every photo is hashed and embedded), the same with the cache it left behind,
and fastai's `fine_tune(5)` on the same photos with the same backbone (EfficientNet-Lite0). The recipe takes a quarter of an
hour or more on a CPU, so its recorded result is shown; `--rerun RECIPE.py` runs that script in its place (`RECIPE.py PHOTOS` has to print a
JSON line with `fit_s`, `valid_accuracy` and `images`; needs `pip install archclf[train]`). The recipe's accuracy is measured
on a random fifth of the photos, archclf's in cross-validation with near-duplicates kept together.

PHOTOS holds styles8/, or the class folders themselves.
"""
import json
import statistics
import sys
import tempfile
from pathlib import Path

from timing import parser, print_machine, print_table, ratio, run_checked, run_process, script, spread, styles8

RECORDED = {'fit_s': 827., 'valid_accuracy': .8281, 'test_accuracy': .610, 'images': 1602}  # two cores, busy with other work; `fit_s` without imports


def train(photos, cache, folder):
    run = run_checked([script('archclf'), 'train', photos, '--out', folder/'model'], {'ARCHCLF_CACHE': str(cache)})
    return run, json.loads((folder/'model'/'model.json').read_text())


def round_of(photos):
    "One training without and one with cached embeddings."
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        return [train(photos, folder/'cache', folder) for _ in ('cold', 'cached')]


def recipe(photos, path):
    if not path: return RECORDED, 'fastai fine_tune(5), recorded', '-'
    run = run_process([sys.executable, path, photos])
    if run.code: raise SystemExit(f'{path} failed: {run.err.strip()[-500:]}')
    return json.loads(run.out.strip().splitlines()[-1]), 'fastai fine_tune(5)', f'{run.megabytes:.0f}'


def main(photos, rounds, rerun):
    print_machine()
    cold, cached = zip(*(round_of(photos) for _ in range(rounds)))
    fastai, name, megabytes = recipe(photos, rerun)
    rows = [[name, f"{fastai['fit_s']:.0f}", '-', '1.00', megabytes]]
    for name, runs in (('archclf train, empty cache', cold), ('archclf train, cached', cached)):
        seconds, memory = ([getattr(run, field) for run, _ in runs] for field in ('seconds', 'megabytes'))
        rows.append([name, *spread(seconds, '{:.1f}'), f"{fastai['fit_s'] / statistics.median(seconds):.0f}", f'{max(memory):.0f}'])
    print_table(f'From photos to a model, {rounds} rounds', ['', 'seconds', 'range', 'times as fast', 'peak MB'], rows)
    print('cold / cached:', ' '.join(ratio(*([run.seconds for run, _ in runs] for runs in (cold, cached)))[:1]))
    metrics = cold[0][1]['metrics']
    low, high = metrics['interval']
    print(f"\narchclf: {metrics['accuracy']:.1%} ({low:.1%} to {high:.1%}) of {metrics['photos']} photos, {metrics['how']}")
    outside = f", {fastai['test_accuracy']:.1%} on photos from other sources" if 'test_accuracy' in fastai else ''
    print(f"fastai:  {fastai['valid_accuracy']:.1%} of a random fifth of {fastai['images']} photos{outside}")


if __name__ == '__main__':
    parser = parser(__doc__)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--rerun', type=Path, metavar='RECIPE.py', help='run this recipe instead of quoting the recorded result')
    arguments = parser.parse_args()
    main(styles8(arguments.photos), arguments.rounds, arguments.rerun)
