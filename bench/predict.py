"""Predicting: one photo in a new process, one photo in a running one, many photos, memory, and the odd files.

    python bench/predict.py [PHOTOS] [--only cold,warm,batch,memory,odd] [--rounds 3]

cold: whole processes (files in the disk cache): `archclf predict`, against fastai's `load_learner` + `predict`. The learner is untrained,
with the body of archclf's own backbone (EfficientNet-Lite0), made and exported here; without `pip install archclf[train]` its rows are left out.
warm: `Classifier.classify(path)` in a running process, against the same work without archclf (Pillow decodes and resizes, `session.run`
on the same session), photo by photo in turn, and against fastai's `learn.predict`, round by round.
batch: `classify_each` over all photos, against what the cores allow: cores / (seconds to decode one photo + seconds of network
for one photo), each measured in one thread, the network in the better of batches of 1 and of 16; slice by slice in turn.
memory: peak of `archclf predict FOLDER` with 500 and with 5,000 photos (links to the same ones over and over).
odd: `archclf predict` of every file in odd/, each in a process of its own; marked are those above 3 s or 600 MB, or with a traceback.

PHOTOS holds styles8/ and odd/.
"""
import os
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image
from timing import every, in_turn, jpegs, parser, print_machine, print_table, ratio, run_checked, run_process, script, spread, timed

FASTAI = 'import sys; from fastai.vision.all import load_learner; print(load_learner(sys.argv[1]).predict(sys.argv[2])[0])'
SECONDS, MEGABYTES = 3, 600  # an odd file above either is marked
PARTS = 'cold', 'warm', 'batch', 'memory', 'odd'


def export_learner(paths, file):
    "Write an untrained fastai learner over EfficientNet-Lite0; False if fastai is not installed."
    try: from fastai.vision.all import CategoryBlock, DataBlock, ImageBlock, Normalize, RandomSplitter, Resize, parent_label, vision_learner
    except ImportError as error:
        print(f'fastai is left out: {error}; pip install archclf[train]')
        return False
    warnings.filterwarnings('ignore')
    block = DataBlock(blocks=(ImageBlock, CategoryBlock), get_y=parent_label, splitter=RandomSplitter(.2, seed=42), item_tfms=Resize(224),
                      batch_tfms=[Normalize.from_stats([.5] * 3, [.5] * 3)])
    dls = block.dataloaders(every(paths, 200), bs=32, num_workers=0)
    learn = vision_learner(dls, 'tf_efficientnet_lite0', pretrained=False, normalize=False, path=file.parent)
    learn.export(file)
    return True


def cold(paths, rounds, learner):
    photo = paths[0]
    commands = {'python -c pass': [sys.executable, '-c', 'pass'], 'import archclf': [sys.executable, '-c', 'import archclf'],
                'archclf --help': [script('archclf'), '--help'], 'archclf predict one.jpg': [script('archclf'), 'predict', photo]}
    if learner: commands['fastai load_learner, predict'] = [sys.executable, '-W', 'ignore', '-c', FASTAI, learner, photo]
    for command in commands.values(): run_checked(command)  # files into the disk cache
    runs = in_turn(rounds, {name: partial(run_checked, command) for name, command in commands.items()})
    seconds = {name: [run.seconds for run in found] for name, found in runs.items()}
    rows = [[name, *spread(values), ratio(values, seconds['archclf predict one.jpg'])[0], f'{max(run.megabytes for run in runs[name]):.0f}']
            for name, values in seconds.items()]
    print_table(f'One photo, new process, {rounds} rounds', ['', 'seconds', 'range', 'x archclf', 'peak MB'], rows)


def bare_square(path, size, crop):
    "The square that the network sees, with Pillow alone."
    image = Image.open(path).convert('RGB')
    side = min(image.size) * crop
    left, top = ((length - side) / 2 for length in image.size)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)))


def bare_run(backbone, path):
    return backbone.all_cores.run(['embedding'], {'image': bare_square(path, backbone.size, backbone.crop)[None]})[0]


def warm(paths, rounds, learner):
    from archclf.classifier import Classifier
    classifier, chosen = Classifier.open(), every(paths, 40)
    calls = {'decode, resize, session.run': partial(bare_run, classifier.backbone), 'Classifier.classify': classifier.classify}
    times = {name: [] for name in calls}
    for path in chosen: bare_run(classifier.backbone, path)  # files into the disk cache
    learn = None
    if learner:
        from fastai.vision.all import load_learner
        learn, times['fastai learn.predict'] = load_learner(learner), []
        fastai_predict(learn, chosen[0])
    for number in range(rounds):
        for turn, path in enumerate(chosen):  # either goes first in every second turn
            for name, call in list(calls.items())[::1 if (turn + number) % 2 else -1]: times[name].append(timed(call, path))
        if learn: times['fastai learn.predict'] += [timed(fastai_predict, learn, path) for path in chosen]  # apart: its threads linger
    floor = times['decode, resize, session.run']
    rows = [[name, *spread([1000 * value for value in values], '{:.1f}'), f'{median(values) / median(floor):.2f}', ratio(values, floor)[0]]
            for name, values in times.items()]
    print_table(f'One photo, running process, {len(chosen)} photos x {rounds}', ['', 'ms', 'range', 'ratio of medians', 'median of ratios'], rows)


def fastai_predict(learn, path):
    with learn.no_bar(): return learn.predict(path)


def single_session(backbone):
    "The same network in one thread."
    from onnxruntime import InferenceSession, SessionOptions
    options = SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return InferenceSession(backbone, options, providers=['CPUExecutionProvider'])


def run_batches(session, squares, batch_size):
    for start in range(0, len(squares), batch_size): session.run(['embedding'], {'image': squares[start:start + batch_size]})


def batch(paths, rounds, slice_size=400):
    from archclf.classifier import Classifier, classify_each, read_model
    classifier, session = Classifier.open(), single_session(read_model()[1]['backbone.onnx'])
    square = partial(bare_square, size=classifier.backbone.size, crop=classifier.backbone.crop)
    slices = [part for part in np.array_split(np.array(paths, object), max(1, len(paths) // slice_size))] * rounds
    rates = {name: [] for name in ('decode and resize, one thread', 'network, one thread', 'what the cores allow', 'classify_each')}
    for part in slices:
        sample = every(list(part), 96)
        decode = timed(lambda: [square(path) for path in sample]) / len(sample)
        squares = np.stack([square(path) for path in sample])
        network = min(timed(run_batches, session, squares, size) for size in (1, 16)) / len(sample)
        whole = timed(lambda: [result for result in classify_each(classifier, list(part))]) / len(part)
        found = 1 / decode, 1 / network, os.cpu_count() / (decode + network), 1 / whole
        for values, value in zip(rates.values(), found, strict=True): values.append(value)
    allowed = rates['what the cores allow']
    rows = [[name, *spread(values, '{:.1f}'), *(ratio(values, allowed) if name == 'classify_each' else ['', ''])] for name, values in rates.items()]
    header = ['', 'photos/s', 'range', 'of what the cores allow', 'range']
    print_table(f'Many photos, {len(paths)} x {rounds} in slices of {len(slices[0])}', header, rows)


def memory(paths, counts):
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            target = Path(folder)/str(count)
            target.mkdir()
            for number in range(count): (target/f'{number:05}.jpg').symlink_to(paths[number % len(paths)].resolve())
            run = run_checked([script('archclf'), 'predict', target])
            rows.append([f'{count:,}', run.megabytes, run.seconds, len(run.out.splitlines())])
    cells = [[name, f'{megabytes:.0f}', f'{megabytes / rows[0][1]:.2f}', f'{seconds:.1f}', f'{lines:,}'] for name, megabytes, seconds, lines in rows]
    print_table('archclf predict FOLDER', ['photos', 'peak MB', 'ratio', 'seconds', 'answers'], cells)


def odd(folder):
    files = sorted(path for path in folder.glob('*') if path.is_file() and path.suffix != '.md')
    if not files: raise SystemExit(f'{folder}: no odd files here; leave the part out with --only')
    rows, marked = [], 0
    for path in files:
        run = run_process([script('archclf'), 'predict', path])
        outcome = (run.out if run.code == 0 else run.err).strip().replace(f'{path}: ', '').splitlines() or ['nothing said']
        checks = {'slow': run.seconds > SECONDS, 'memory': run.megabytes > MEGABYTES, 'traceback': 'Traceback' in run.err,
                  'crash': run.code < 0, 'silent': outcome == ['nothing said']}
        faults = ' '.join(fault for fault, found in checks.items() if found)
        marked += bool(faults)
        rows.append([path.name, outcome[-1][:70], run.code, f'{run.seconds:.2f}', f'{run.busy:.2f}', f'{run.megabytes:.0f}', faults])
    header = ['file', 'outcome', 'exit', 'seconds', 'CPU seconds', 'peak MB', 'mark']
    print_table(f'{len(rows)} odd files, each in its own process', header, rows, left=2)
    print(f'{marked} marked (above {SECONDS} s or {MEGABYTES} MB, a traceback, a crash, or silence)')


def main(photos, rounds, only, counts):
    print_machine()
    paths = jpegs(photos)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder)/'learner.pkl'
        learner = file if {'cold', 'warm'} & set(only) and export_learner(paths, file) else None
        if 'cold' in only: cold(paths, rounds, learner)
        if 'warm' in only: warm(paths, rounds, learner)
    if 'batch' in only: batch(paths, rounds)
    if 'memory' in only: memory(paths, counts)
    if 'odd' in only: odd(photos/'odd')


def parts(text):
    chosen = text.split(',')
    if set(chosen) - set(PARTS): raise ValueError
    return chosen


if __name__ == '__main__':
    parser = parser(__doc__)
    parser.add_argument('--only', type=parts, default=PARTS, help=','.join(PARTS))
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--counts', type=int, nargs='+', default=[500, 5000], help='photos in the folders of the part memory')
    main(**vars(parser.parse_args()))
