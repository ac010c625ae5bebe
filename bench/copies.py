"""The search for near-duplicates: how it grows with the number of photos, and which copies it finds.

    python bench/copies.py [PHOTOS] [--sizes 10000 100000] [--planted 200] [--only growth,recall]

growth: seconds and peak memory of `near_duplicates` on synthetic hashes, each size in a process of its own: hashes of real photos
with 22 % of their bits flipped at random, the same bits in a picture and its crops. The exponent is that of CPU seconds = constant x
photos ** exponent; added memory is what the search takes besides the hashes.
recall: copies of real photos (half size, JPEG quality 30, mirrored, cropped) are planted among all photos, one kind at a time; counted
are those that land in the group of their original. Then the pairs that are joined among the originals themselves are named, so that
one can look whether they show the same scene or are joined by mistake.

PHOTOS holds styles8/, or the class folders themselves.
"""
import io
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from timing import every, jpegs, parser, print_machine, print_table, run_checked, spread, timed

from archclf.copies import hash_each, near_duplicates, perceptual_hashes
from archclf.image import read_image

NOISE = .22  # share of bits flipped


def crop(left, top, right, bottom):
    "Cut these shares off."
    return lambda image: image.crop((round(left * image.width), round(top * image.height),
                                     round((1 - right) * image.width), round((1 - bottom) * image.height)))


CHANGES = {'half size': lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
           'JPEG quality 30': lambda image: image, 'mirrored': ImageOps.mirror, '5 % off at each side': crop(.05, .05, .05, .05),
           '5 % off at the left': crop(.05, 0, 0, 0), '5 % off at the bottom': crop(0, 0, 0, .05), '5 % off at a corner': crop(.05, .05, 0, 0)}


def copy_hashes(path, name):
    "Hashes of a changed copy, saved as JPEG as people would."
    file = io.BytesIO()
    CHANGES[name](read_image(path)).save(file, 'JPEG', quality=30 if '30' in name else 85)
    return perceptual_hashes(read_image(file.getvalue(), at_least=128))


def real_hashes(paths): return np.stack([value for _, value in hash_each(paths) if isinstance(value, np.ndarray)])


def synthetic(real, count, seed=0):
    random = np.random.default_rng(seed)
    hashes = np.empty((count, real.shape[1]), np.uint64)
    for rows in np.array_split(np.arange(count), count // 4096 + 1):
        flips = np.packbits(random.random((len(rows), 64)) < NOISE, axis=1).view(np.uint64)
        hashes[rows] = real[random.integers(0, len(real), len(rows))] ^ flips
    return hashes


def peak():
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2 ** 20 if sys.platform == 'darwin' else 2 ** 10)


def search_once(real_file, count):
    hashes = synthetic(np.load(real_file), count)
    near_duplicates(hashes[:100])
    before = peak()
    start = time.process_time()
    seconds = timed(near_duplicates, hashes)
    print(seconds, time.process_time() - start, peak() - before, peak())


def growth(paths, sizes, rounds):
    found = {count: [] for count in sizes}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder)/'real.npy'
        np.save(file, real_hashes(paths))
        for _ in range(rounds):
            for count in sizes:
                words = run_checked([sys.executable, __file__, '--search', file, count]).out.split()
                found[count].append([float(word) for word in words])
    middle = {count: np.median(values, axis=0) for count, values in found.items()}
    rows, last = [], None
    for count, (seconds, busy, added, whole) in middle.items():
        exponent = f"{math.log(busy / middle[last][1]) / math.log(count / last):.2f}" if last else '-'
        rows.append([f'{count:,}', *spread([values[0] for values in found[count]]), f'{busy:.2f}', exponent, f'{added:.0f}', f'{whole:.0f}'])
        last = count
    print_table(f'Search, {rounds} rounds', ['photos', 'seconds', 'range', 'CPU seconds', 'exponent', 'added MB', 'peak MB'], rows)


def recall(paths, planted):
    originals, chosen = real_hashes(paths), every(list(range(len(paths))), planted)
    rows = []
    for name in CHANGES:  # one kind at a time: none is found by way of another
        copies = np.stack([copy_hashes(paths[index], name) for index in chosen])
        group = near_duplicates(np.concatenate([originals, copies]))
        hits = int((group[len(originals):] == group[chosen]).sum())
        rows.append([name, f'{hits} of {len(chosen)}', f'{hits / len(chosen):.1%}'])
    print_table('Planted copies found', ['copy', 'found', 'recall'], rows)
    group, pairs = near_duplicates(originals), len(originals) * (len(originals) - 1) // 2
    joined = [(left, right) for left in range(len(group)) for right in left + 1 + np.flatnonzero(group[left + 1:] == group[left])]
    print(f'joined among the originals: {len(joined)} of {pairs:,} pairs')
    for pair in joined: print('  ' + ', '.join('/'.join(paths[index].parts[-2:]) for index in pair))


def main(photos, sizes, planted, rounds, only):
    print_machine()
    paths = jpegs(photos)
    if 'growth' in only: growth(paths, sizes, rounds)
    if 'recall' in only: recall(paths, planted)


if __name__ == '__main__':
    if sys.argv[1:2] == ['--search']: search_once(sys.argv[2], int(sys.argv[3]))
    else:
        parser = parser(__doc__)
        parser.add_argument('--sizes', type=int, nargs='+', default=[10_000, 100_000])
        parser.add_argument('--planted', type=int, default=200)
        parser.add_argument('--rounds', type=int, default=2)
        parser.add_argument('--only', type=lambda text: text.split(','), default=['growth', 'recall'], help='growth, recall')
        arguments = parser.parse_args()
        main(**vars(arguments))
