"Copies of real photos are found and stay on one side of every split; the cache computes what is new and nothing else."
import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from scipy.sparse.csgraph import connected_components

from archclf import dataset, embed
from archclf.classifier import Classifier
from archclf.copies import RADIUS, Cache, Copies, compute_cached, hash_distance, near_duplicates, perceptual_hashes
from archclf.dataset import deal, scan_photos, split_photos
from archclf.image import REASONS, read_image
from archclf.probe import fit_probe
from archclf.sample import draw_facades


def crop(left=0, top=0, right=0, bottom=0):
    "Cut shares of the width and height off the sides."
    return lambda image: image.crop((round(image.width*left), round(image.height*top),
                                     round(image.width*(1 - right)), round(image.height*(1 - bottom))))


def resize(share): return lambda image: image.resize((max(1, round(image.width*share)), max(1, round(image.height*share))))


def after(*steps):
    def all_of_them(image):
        for step in steps: image = step(image)
        return image
    return all_of_them


SAME = lambda image: image
COPIES = {  # what happened on the way from one site to the next: a change, and how the result was saved
    'recompressed': (SAME, 'JPEG', 30), 'as PNG': (SAME, 'PNG', None), 'as WebP': (SAME, 'WEBP', 40),
    'smaller': (resize(.4), 'JPEG', 75), 'larger': (resize(1.7), 'JPEG', 85), 'mirrored': (ImageOps.mirror, 'JPEG', 75),
    'squeezed': (lambda image: image.resize((240, 240)), 'JPEG', 75), 'in grey': (ImageOps.grayscale, 'JPEG', 75),
    'left cut': (crop(left=.05), 'JPEG', 75), 'right cut': (crop(right=.05), 'JPEG', 75), 'top cut': (crop(top=.05), 'JPEG', 75),
    'bottom cut': (crop(bottom=.05), 'JPEG', 75), 'sides cut': (crop(left=.025, right=.025), 'JPEG', 75),
    'all round cut': (crop(.025, .025, .025, .025), 'JPEG', 75), 'corner cut': (crop(left=.05, bottom=.05), 'JPEG', 75),
    'cut, mirrored': (after(crop(top=.05), ImageOps.mirror), 'JPEG', 60),
    'cut, smaller, bad': (after(crop(right=.05), resize(.5)), 'JPEG', 35),
    'mirrored, cut, smaller, bad': (after(ImageOps.mirror, crop(left=.05), resize(.5)), 'JPEG', 35)}
PER_KIND = 10


@pytest.fixture(scope='module')
def planted(photos, styles8, tmp_path_factory):
    "The photos of styles8 and disguised copies of 180 of them: `table` of all, and the `path`, `original` and `kind` of each copy."
    folder = tmp_path_factory.mktemp('planted')/'styles8'
    for path in styles8.table.path:
        link = folder/os.path.relpath(path, photos/'styles8')
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.abspath(path))
    chosen = styles8.table.sample(PER_KIND*len(COPIES), random_state=11).reset_index(drop=True)
    rows = []
    for (number, photo), kind in zip(chosen.iterrows(), list(COPIES)*PER_KIND):
        change, format, quality = COPIES[kind]
        path = folder/photo.label/f'copy-{number}.{format.lower()}'
        change(read_image(photo.path)).save(path, format, **({'quality': quality} if quality else {}))
        rows.append((str(path), str(folder/os.path.relpath(photo.path, photos/'styles8')), kind))
    table, problems = scan_photos(folder)
    assert problems.empty
    return SimpleNamespace(table=table, copies=pd.DataFrame(rows, columns=['path', 'original', 'kind']))


@pytest.mark.parametrize('kind', COPIES)
def test_every_copy_is_found(planted, kind):
    group = planted.table.set_index('path').group
    copies = planted.copies[planted.copies.kind == kind]
    assert len(copies) == PER_KIND
    missed = [path for path, original in zip(copies.path, copies.original) if group[path] != group[original]]
    assert not missed


def test_different_photos_stay_apart(planted, styles8):
    "Copies may join the few originals that were found alike before, and hardly any others."
    alone = styles8.table.group.nunique()
    assert len(styles8.table) - alone <= 5
    originals = planted.table[~planted.table.path.isin(planted.copies.path)]
    assert len(originals) == len(styles8.table)
    assert alone - originals.group.nunique() <= 3


@pytest.mark.parametrize('seed', [0, 1, 42])
@pytest.mark.parametrize('valid, test', [(.2, 0.), (.2, .2), (.1, .3), (.5, .25)])
def test_splits_of_photos(planted, valid, test, seed):
    "No group straddles a split, and every class has its share in each, to within two photos or the size of a group."
    table = split_photos(planted.table, valid, test, seed)
    assert table.groupby('group').split.nunique().max() == 1
    shares = {'train': 1 - valid - test, 'valid': valid, 'test': test}
    assert set(table.split) == {name for name in shares if shares[name]}
    for label, photos in table.groupby('label'):
        for name, share in shares.items():
            assert abs((photos.split == name).sum() - share*len(photos)) <= 3.5, (label, name)
        for name, share in shares.items():
            groups = photos.drop_duplicates('group')
            assert abs((groups.split == name).sum() - share*len(groups)) <= 2, (label, name)


@pytest.mark.parametrize('seed', [0, 42])
def test_folds_of_photos(planted, seed):
    embeddings = np.random.default_rng(0).random((len(planted.table), 8), dtype=np.float32)
    predictions = fit_probe(planted.table, embeddings, seed=seed).predictions
    assert (predictions.path.to_numpy() == planted.table.path.to_numpy()).all()
    assert predictions.fold.groupby(planted.table.group.to_numpy()).nunique().max() == 1
    assert set(predictions.fold) == set(range(5))


@pytest.mark.parametrize('classes', [2, 3, 8, 25])
@pytest.mark.parametrize('seed', range(5))
def test_classes_of_five_photos_are_spread(classes, seed):
    labels = np.repeat([f'class {number:02}' for number in range(classes)], 5)
    number = deal(labels, np.arange(len(labels)), seed)
    for label in set(labels):
        fold = np.bincount((number[labels == label]*5).astype(int), minlength=5)
        assert fold.max() <= 2, 'each of the five fits learns from at least three of the five'
        assert (number[labels == label] < .2).sum() <= 2


groups = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 6)), min_size=1, max_size=60)  # (class, photos) of each


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(groups, st.integers(0, 2**32 - 1))
def test_deal(piles, seed):
    labels = np.concatenate([[f'class {label}']*size for label, size in piles])
    group = np.repeat(np.arange(len(piles)), [size for _, size in piles])
    number = deal(labels, group, seed)
    assert number.shape == labels.shape and (0 <= number).all() and (number < 1).all()
    assert all(len(set(number[group == one])) == 1 for one in set(group)), 'a group was torn apart'
    assert np.array_equal(deal(labels, group, seed), number)
    assert len(set(number)) == len(piles), 'two groups got the same number'
    for label in set(labels):
        one_each = pd.Series(number[labels == label]).drop_duplicates()
        for parts in 2, 3, 5, 10:
            sizes = np.bincount((one_each*parts).astype(int), minlength=parts)
            assert sizes.max() - sizes.min() <= 2, (label, parts)


def test_another_seed_deals_differently():
    labels, group = np.repeat(['a', 'b'], 30), np.arange(60)//2
    assert (deal(labels, group, 1) != deal(labels, group, 2)).any()


def brute_force(hashes, radius):
    "Compare every hash with every variant of every other photo."
    near = hash_distance(hashes[:, :1, None], hashes[None]).min(2) <= radius
    return connected_components(near, directed=False)[1]


def partition(groups): return {frozenset(np.flatnonzero(groups == group).tolist()) for group in set(groups.tolist())}


@st.composite
def hash_sets(draw, variants=None):
    "Hashes of up to 40 photos with `variants` or up to 6 each, many of them a few bits from another; the same hash has the same variants."
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    photos, variants = draw(st.integers(1, 40)), variants or draw(st.integers(1, 6))
    hashes = rng.integers(0, 2**64, (photos, variants), dtype=np.uint64)
    for photo in range(1, photos):
        if rng.random() < .3: continue
        source = hashes[rng.integers(photo), rng.integers(variants)]
        places, quarters = rng.permutation(16)[:7], rng.permutation(4)*16
        kinds = (rng.integers(0, 64, 9)[:rng.integers(10)], rng.integers(0, 24, 9)[:rng.integers(10)],  # anywhere, close together,
                 quarters[np.arange(7) % 3] + places, quarters[np.arange(7) % 4] + places)  # in three quarters, in all four
        bits = kinds[rng.integers(4)]
        for bit in bits: source ^= np.uint64(1 << int(bit))
        hashes[photo, 0] = source
    _, first, node = np.unique(hashes[:, 0], return_index=True, return_inverse=True)
    return hashes[first[node]]


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(hash_sets(), st.sampled_from([0, 1, 3, 5, 6, 7, 7, 7]))
def test_near_duplicates_is_brute_force(hashes, radius):
    found = near_duplicates(hashes, radius)
    assert partition(found) == partition(brute_force(hashes, radius))
    assert set(found) == set(range(len(set(found))))


def test_the_hardest_pairs():
    "Seven bits apart, one of them in one quarter and two in each other: that one may be any of the 64."
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**64, (64, 1), dtype=np.uint64)
    copies = hashes.copy()
    for bit in range(64):
        others = [16*quarter + place for quarter in range(4) if quarter != bit//16 for place in rng.permutation(16)[:2]]
        for one in bit, *others: copies[bit] ^= np.uint64(1 << int(one))
    found = near_duplicates(np.concatenate([hashes, copies]), 7)
    assert np.array_equal(found[:64], found[64:]) and len(set(found.tolist())) == 64


@pytest.mark.parametrize('seed', range(3))
def test_one_picture_at_a_time_is_near_duplicates(seed):
    "Copies by 0 to 9 bits, in either direction, of pictures before, at and beyond the ends of the blocks that are searched."
    rng, count = np.random.default_rng(seed), 2500
    seen, new = rng.integers(0, 2**64, (2, count, 50), dtype=np.uint64)
    places, half = rng.integers(0, 50, count), np.arange(count) % 2 == 0
    flips = np.packbits(rng.random((count, 64)).argsort(1) < rng.integers(0, 10, (count, 1)), axis=1).view(np.uint64)[:, 0]
    new[half, 0] = seen[half, places[half]] ^ flips[half]
    new[~half, places[~half]] = seen[~half, 0] ^ flips[~half]
    groups, copies = near_duplicates(np.concatenate([seen, new])), Copies()
    for number, hashes in enumerate(seen): copies.add(hashes, f'{number}.jpg')
    chosen = [*range(0, count, 20), 1023, 1024, 2047, 2048, count - 1]
    joined = groups[:count] == groups[count:]
    assert .6 < joined.mean() < .8
    assert [copies.find(new[number]) for number in chosen] == [f'{number}.jpg' if joined[number] else None for number in chosen]


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(hash_sets(variants=50))
def test_the_first_that_was_seen_is_named(hashes):
    "What brute force finds among the pictures that came before, each of which is added after it was looked for."
    near, copies = hash_distance(hashes[:, :1, None], hashes[None]).min(2) <= RADIUS, Copies()
    for number, (one, alike) in enumerate(zip(hashes, near | near.T)):
        before = np.flatnonzero(alike[:number])
        assert copies.find(one) == (str(before[0]) if len(before) else None)
        copies.add(one, str(number))


@pytest.mark.parametrize('radius', [-1, 8])
def test_radius(radius):
    with pytest.raises(ValueError, match='0 to 7'): near_duplicates(np.zeros((2, 50), np.uint64), radius)


def test_pictures_without_anything_in_them(tmp_path):
    "White, black and grey pages hash to something, and a thousand of them do not take a thousand times a thousand steps."
    for colour in 'white', 'black', 'grey': assert perceptual_hashes(Image.new('RGB', (30, 20), colour)).shape == (50,)
    page = perceptual_hashes(Image.new('RGB', (30, 20), 'white'))
    assert len(set(near_duplicates(np.tile(page, (20_000, 1))).tolist())) == 1


@pytest.fixture
def folder(drawings, tmp_path, monkeypatch):
    "Sixteen drawings and an empty cache."
    monkeypatch.setenv('ARCHCLF_CACHE', str(tmp_path/'cache'))
    for label in 'gothic', 'modern': shutil.copytree(drawings/label, tmp_path/'photos'/label)
    return tmp_path/'photos'


def test_unreadable_files_are_listed(folder):
    bad = {'empty.jpg': (b'', 'empty'), 'page.jpg': (b'<html>403</html>', 'not an image'), 'notes.txt': (b'mine', 'not an image'),
           'half.jpg': ((folder/'gothic'/'gothic-0000.jpg').read_bytes()[:3000], 'damaged'), 'same-page.jpg': (b'<html>403</html>', 'not an image')}
    for name, (data, _) in bad.items(): (folder/'gothic'/name).write_bytes(data)
    (folder/'modern'/'folder').mkdir()
    (folder/'modern'/'.hidden.jpg').write_bytes(b'')
    (folder/'manifest.csv').write_text('not in a class')
    table, problems = scan_photos(folder)
    assert len(table) == 16
    reasons = dict(zip(problems.path, problems.reason))
    assert reasons.pop(str(folder/'modern'/'folder')).startswith('folder inside a class')
    assert reasons == {str(folder/'gothic'/name): REASONS[reason] for name, (_, reason) in bad.items()}


@pytest.mark.skipif(os.name == 'nt', reason='needs symbolic links')
def test_a_link_to_nowhere_is_listed(folder):
    "As left behind where photos were linked in and their originals moved."
    (folder/'gothic'/'link.jpg').symlink_to('nowhere.jpg')
    table, problems = scan_photos(folder)
    assert len(table) == 16
    assert problems.path.tolist() == [str(folder/'gothic'/'link.jpg')] and 'no such file' in problems.reason[0].lower()


def test_nothing_but_unreadable_files(tmp_path):
    (tmp_path/'a').mkdir()
    (tmp_path/'a'/'x.jpg').write_bytes(b'')
    with pytest.raises(ValueError, match='none of its 1 files can be read') as caught: scan_photos(tmp_path)
    assert '\n' not in str(caught.value)


@pytest.fixture
def computed(monkeypatch):
    "Names of the files that were hashed and embedded, in two lists that fill up."
    found = SimpleNamespace(hashed=[], embedded=[])

    def spy(module, name, position, names):
        real = getattr(module, name)

        def counting(*arguments):
            names.extend(os.path.basename(path) for path in arguments[position])
            return real(*arguments)
        monkeypatch.setattr(module, name, counting)
    spy(dataset, 'hash_each', 0, found.hashed)
    spy(embed, 'embed_each', 1, found.embedded)
    return found


def test_a_changed_photo_is_computed_again_and_nothing_else(folder, computed):
    backbone = Classifier.open().backbone

    def look():
        computed.hashed.clear(), computed.embedded.clear()
        table, _ = scan_photos(folder)
        embeddings = embed.embed_photos(table, backbone)
        assert computed.hashed == computed.embedded
        return dict(zip(table.path.map(os.path.basename), embeddings))
    before = look()
    assert len(computed.hashed) == 16
    after = look()
    assert not computed.hashed
    assert all(np.array_equal(before[name], after[name]) for name in before)
    (folder/'modern'/'modern-0003.jpg').write_bytes((folder/'gothic'/'gothic-0003.jpg').read_bytes() + b'\0')
    (folder/'gothic'/'gothic-0001.jpg').rename(folder/'gothic'/'renamed.jpg')
    shutil.copy(folder/'gothic'/'gothic-0002.jpg', folder/'modern'/'the-same.jpg')
    after = look()
    assert computed.hashed == ['modern-0003.jpg']
    assert np.array_equal(after['renamed.jpg'], before['gothic-0001.jpg'])
    assert np.array_equal(after['the-same.jpg'], before['gothic-0002.jpg'])
    assert np.allclose(after['modern-0003.jpg'], before['gothic-0003.jpg'], atol=1e-4)


def test_every_value_is_written_once(folder, monkeypatch):
    "Or a large folder would spend its time on writing the same values again."
    written, update = [], Cache.update

    def counting(cache, values):
        written.extend(values)
        return update(cache, values)
    monkeypatch.setattr(Cache, 'update', counting)
    paths = {f'key {number}': f'{number}.jpg' for number in range(300)}
    each = lambda paths: ((path, np.array([len(path)])) for path in paths)
    values, errors = compute_cached(Cache('many', np.int64), paths, each, 'Counting')
    assert sorted(written) == sorted(paths) == sorted(values) and not errors
    assert compute_cached(Cache('many', np.int64), paths, each, 'Counting')[0].keys() == values.keys() and len(written) == 300


def test_what_was_computed_before_a_crash_is_kept(folder):
    def each(paths):
        for number, path in enumerate(paths):
            if number == 200: raise KeyboardInterrupt
            yield path, np.array([number])
    paths = {f'key {number}': f'{number}.jpg' for number in range(300)}
    with pytest.raises(KeyboardInterrupt): compute_cached(Cache('torn', np.int64), paths, each, 'Counting')
    assert len(Cache('torn', np.int64)[list(paths)]) >= 192


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 2**32))
def test_hashes_of_a_mirror_image_are_those_of_the_picture(seed):
    "The second half of the fifty is the first half of the mirror image, to within rounding."
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((160, 128), Image.Resampling.BICUBIC)
    hashes, mirrored = perceptual_hashes(image), perceptual_hashes(ImageOps.mirror(image))
    assert hash_distance(hashes[25], mirrored[0]) <= 2 and hash_distance(hashes[0], mirrored[25]) <= 2
    assume(hash_distance(hashes[0], mirrored[0]) > 6)
    assert near_duplicates(np.stack([hashes, mirrored])).tolist() == [0, 0]


def test_a_class_that_would_vanish_stops_the_run(tmp_path):
    draw_facades(tmp_path, per_style=1)
    (tmp_path/'empty').mkdir()
    with pytest.raises(ValueError, match='the folder is empty'): scan_photos(tmp_path)


def test_what_lies_beside_the_class_folders_is_listed(tmp_path):
    draw_facades(tmp_path, per_style=1)
    for name in 'loose.jpg', 'manifest.csv', '.hidden.jpg', 'manifest.jsonl', 'CREDITS.md', '.manifest.jsonl.lock': (tmp_path/name).write_bytes(b'x')
    table, problems = scan_photos(tmp_path)
    assert len(table) == 8 and problems.path.map(os.path.basename).tolist() == ['loose.jpg']


def test_the_manifest_says_where_photos_come_from(folder):
    "A line counts for the photo that it saved, not for one that it found to be a copy of it."
    before, _ = scan_photos(folder)
    assert list(before) == ['path', 'label', 'sha256', 'group']
    line = {'url': 'https://example.org/1.jpg', 'page': 'https://example.org/page', 'title': 'Façade "A"', 'creator': 'archclf sample', 'license': 'CC0 1.0',
            'license_url': 'https://example.org/licence', 'provider': 'example', 'label': 'elsewhere', 'status': 'saved', 'reason': '',
            'path': 'gothic/gothic-0001.jpg', 'sha256': '0' * 64}
    copy = {**line, 'status': 'duplicate', 'reason': 'near copy', 'title': 'A copy', 'sha256': ''}
    lines = [line, {**copy, 'url': 'https://example.org/2.jpg'}, {**copy, 'url': 'https://example.org/3.jpg', 'path': 'gothic/gothic-0002.jpg'},
             {**line, 'url': 'https://example.org/4.jpg', 'path': 'modern/gone.jpg'}]
    (folder/'manifest.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines), encoding='utf-8')
    table, problems = scan_photos(folder)
    assert problems.empty and table[list(before)].equals(before) and list(table)[4:] == list(dataset.ORIGIN)
    rows = table.set_index(table.path.map(os.path.basename))[list(dataset.ORIGIN)]
    assert rows.loc['gothic-0001.jpg'].to_dict() == {field: line[field] for field in dataset.ORIGIN}
    assert (rows.drop(index='gothic-0001.jpg') == '').all(axis=None) and len(rows) == 16


def test_parts_in_place_of_classes_are_named(tmp_path):
    for part in 'train', 'valid': draw_facades(tmp_path/part, per_style=1)
    with pytest.raises(ValueError, match='pass .*train'): scan_photos(tmp_path)
