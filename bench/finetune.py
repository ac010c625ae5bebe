"""Fine-tuning: the plain and the gentle recipe of archclf, and the probe, against a fastai script, on one and the same split.

    python bench/finetune.py [PHOTOS] [--outside PHOTOS] [--epochs 5,3] [--only probe,gentle,plain] [--rerun RECIPE.py]

The split is the one of the script, `RandomSplitter(.2, seed=42)` over `get_image_files`, so that its accuracy can be compared: the plain
recipe has to be within two standard errors of it. The script takes a quarter of an hour on two cores, so its recorded result is shown;
`--rerun RECIPE.py` runs it (`RECIPE.py PHOTOS [OUTSIDE]` has to print a JSON line with fit_s, valid_accuracy, test_accuracy). OUTSIDE
holds photos of the same classes from other sources. Needs `pip install archclf[train]`. PHOTOS holds styles8/, or the class folders.
"""
import json
import sys
from math import sqrt
from pathlib import Path

import numpy as np
from timing import parser, print_machine, print_table, run_checked, styles8
from train import RECORDED


def same_split(folder, photos):
    "The table with the validation photos that fastai's splitter would take."
    from fastai.data.transforms import RandomSplitter, get_image_files
    files = get_image_files(folder)
    valid = {str(files[index]) for index in RandomSplitter(.2, seed=42)(files)[1]}
    return photos.assign(split=np.where(photos.path.isin(valid), 'valid', 'train'))


def examine(trained, photos):
    "Share of `photos` named rightly."
    names = np.array(trained.labels)[trained.classify(list(photos.path)).argmax(1)]
    return float((names == photos.label.to_numpy()).mean())


def main(folder, outside, epochs, only, rerun):
    from archclf.compare import RUNGS
    from archclf.dataset import scan_photos
    print_machine()
    photos = same_split(folder, scan_photos(folder)[0])
    elsewhere, valid = scan_photos(outside)[0] if outside else None, photos[photos.split == 'valid']
    if rerun: script = json.loads(run_checked([sys.executable, rerun, folder, *([outside] if outside else [])]).out.strip().splitlines()[-1])
    else: script = RECORDED
    rows = [['fastai script' + ('' if rerun else ', recorded'), f"{script['fit_s']:.0f}", f"{script['valid_accuracy']:.1%}", f"{script.get('test_accuracy', float('nan')):.1%}"]]
    for rung in only:
        trained = RUNGS[rung](photos, 42, epochs.get(rung, 3))
        rows.append([rung, f'{trained.seconds:.0f}', f'{examine(trained, valid):.1%}', f'{examine(trained, elsewhere):.1%}' if outside else '-'])
        print_table(f'{len(photos)} photos, {len(valid)} held back', ['', 'seconds', 'held back', 'outside'], rows)
    error = sqrt(script['valid_accuracy'] * (1 - script['valid_accuracy']) / len(valid))
    print(f'\none standard error of the script: {100 * error:.1f} points')


if __name__ == '__main__':
    options = parser(__doc__)
    options.add_argument('--outside', type=Path, help='photos of the same classes from other sources')
    options.add_argument('--epochs', default='5,3', help='of the plain and of the gentle recipe')
    options.add_argument('--only', default='probe,gentle,plain')
    options.add_argument('--rerun', type=Path, metavar='RECIPE.py', help='run this script instead of quoting the recorded result')
    arguments = options.parse_args()
    plain, gentle = map(int, arguments.epochs.split(','))
    main(styles8(arguments.photos), arguments.outside, {'plain': plain, 'gentle': gentle}, arguments.only.split(','), arguments.rerun)
