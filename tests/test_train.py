"Training on real photos is as good as promised; a killed run goes on where it stopped; wrong arguments are refused in one line."
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import COMMAND
from sklearn.linear_model import LogisticRegression

from archclf import embed
from archclf.classifier import Classifier, read_model, softmax, transform
from archclf.embed import embed_photos
from archclf.probe import fit_heads, fit_out_of_fold, fit_probe, probe_photos, train_probe
from archclf.sample import draw_facades


def content(folder): return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_accuracy_on_photos(photos, styles8, tmp_path):
    "Cross-validated on all of styles8, near-duplicates kept together; computed again from the table of predictions."
    probe, problems = train_probe(photos/'styles8', tmp_path/'model')
    assert problems.empty
    metrics, predictions = json.loads((tmp_path/'model'/'model.json').read_text(encoding='utf-8'))['metrics'], probe.predictions
    right = predictions.label == predictions.predicted
    assert right.mean() >= .88 and metrics['accuracy'] == pytest.approx(right.mean(), abs=1e-3)
    bins = (predictions.confidence*10).astype(int).clip(upper=9)
    error = sum(abs(right[bins == one].mean() - predictions.confidence[bins == one].mean())*(bins == one).mean() for one in set(bins))
    assert error < .05 and metrics['expected_calibration_error'] < .05
    sure = predictions.confidence >= probe.head.threshold
    assert right[sure].mean() >= .935 and sure.mean() > .6
    assert predictions.fold.groupby(probe.photos.group.to_numpy()).nunique().max() == 1


def test_predictions_are_out_of_fold(styles8):
    "On labels that mean nothing, nothing can be learned, and the accuracy says so."
    shuffled = styles8.table.sample(400, random_state=1)
    embeddings = styles8.embeddings[shuffled.index]
    shuffled = shuffled.assign(label=np.random.default_rng(0).permutation(['a', 'b', 'c', 'd']*100), group=range(400)).reset_index(drop=True)
    probe = fit_probe(shuffled, embeddings)
    assert abs((probe.predictions.label == probe.predictions.predicted).mean() - .25) < .09
    assert probe.predictions.confidence.mean() < .45, 'calibration admits it'


def test_a_saved_model_says_what_the_probe_says(model, drawings):
    probe, _ = probe_photos(drawings)
    opened = Classifier.open(model)
    vectors = np.random.default_rng(0).random((20, probe.head.weight.shape[1]), dtype=np.float32)
    assert np.allclose(opened.head.probabilities(vectors), probe.head.probabilities(vectors), atol=1e-5)
    codes, inputs = np.searchsorted(probe.head.labels, probe.photos.label), transform(embed_photos(probe.photos, opened.backbone))
    logits, weight, _ = fit_out_of_fold(inputs, codes, probe.predictions.fold.to_numpy())
    assert np.allclose(opened.head.weight*probe.temperature, weight, atol=1e-4), 'the temperature is divided in'
    expected = softmax(logits/probe.temperature)[np.arange(len(codes)), logits.argmax(1)]
    assert np.allclose(probe.predictions.confidence, expected, atol=1e-4)
    assert opened.head.labels == probe.head.labels and opened.head.threshold == probe.head.threshold


@pytest.mark.parametrize('seed', range(4))
def test_fit_heads_is_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    photos, dimensions, classes, strength = int(rng.integers(60, 250)), int(rng.integers(3, 40)), int(rng.integers(2, 6)), float(rng.choice([1, 10, 100]))
    codes = np.concatenate([np.tile(np.arange(classes), 4), rng.integers(0, classes, photos - 4*classes)])
    inputs = (rng.normal(size=(photos, dimensions)) + 1.5*rng.normal(size=(classes, dimensions))[codes] + 3).astype(np.float32)
    inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
    counts = np.ones((photos, 4))
    for fit in range(3): counts[4*classes + fit::3, fit] = 0
    weights, biases = fit_heads(inputs, codes, counts, strength)
    assert weights.shape == (4, classes, dimensions) and biases.shape == (4, classes)
    for fit in range(4):
        kept = counts[:, fit] == 1  # of two classes scikit-learn penalises the difference of the weights only, which is twice as strong
        reference = LogisticRegression(C=strength*photos/kept.sum()*(2 if classes == 2 else 1), tol=1e-9, max_iter=100_000).fit(inputs[kept], codes[kept])
        found, expected = softmax(inputs @ weights[fit].T + biases[fit]), reference.predict_proba(inputs)
        assert abs(found - expected).max() < .02
        assert (found.argmax(1) == expected.argmax(1)).mean() > .99


@pytest.fixture(scope='module')
def two_hundred(tmp_path_factory):
    return draw_facades(tmp_path_factory.mktemp('two-hundred')/'drawings', per_style=25, seed=9)


def embedded(cache):
    "How many embeddings have been kept so far."
    files = list(Path(cache).glob('embeddings-*.sqlite'))
    if not files: return 0
    try:
        with sqlite3.connect(f'file:{files[0]}?mode=ro', uri=True, timeout=10) as connection:
            return connection.execute('select count(*) from kept').fetchone()[0]
    except sqlite3.OperationalError: return 0  # the table is not there yet


class Training:
    "`archclf train` in a process of its own, with its own cache; the model folder is checked whenever it is there."
    def __init__(self, photos, out, cache):
        self.out, self.cache = out, cache
        self.process = subprocess.Popen([*COMMAND, 'train', str(photos), '--out', str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        text=True, cwd=out.parent, env={**os.environ, 'ARCHCLF_CACHE': str(cache)})

    def until(self, reached):
        while self.process.poll() is None and not reached():
            self.look()
            time.sleep(.01)
        return self

    def look(self):
        if self.out.exists(): read_model(self.out)  # raises if it is not whole

    def end(self, sign=None):
        if sign: self.process.send_signal(sign)
        _, errors = self.process.communicate(timeout=120)
        self.look()
        return self.process.returncode, errors


@pytest.fixture(scope='module')
def undisturbed(two_hundred, tmp_path_factory):
    "The model that training gives when nobody interferes."
    folder = tmp_path_factory.mktemp('undisturbed')
    training = Training(two_hundred, folder/'model', folder/'cache').until(lambda: False)
    assert training.end()[0] == 0
    assert embedded(folder/'cache') == 200
    return content(folder/'model')


@pytest.mark.skipif(os.name == 'nt', reason='needs SIGKILL')
def test_a_killed_run_goes_on_where_it_stopped(two_hundred, undisturbed, tmp_path, monkeypatch):
    out, cache, rng, reached = tmp_path/'model', tmp_path/'cache', np.random.default_rng(4), []
    for wanted in 1, 65, 129:
        training = Training(two_hundred, out, cache).until(lambda: embedded(cache) >= wanted)
        if reached: time.sleep(rng.uniform(0, .3))
        assert training.end(signal.SIGKILL)[0] in (-signal.SIGKILL, 0)
        assert training.process.returncode == 0 or not out.exists(), 'only a finished run leaves a model'
        reached.append(embedded(cache))
    assert reached[0] < 200, 'nothing was kept before the end'
    assert 64 <= reached[0] <= reached[1] <= reached[2] and reached[2] >= 129, reached
    if training.process.returncode == 0: shutil.rmtree(out)  # the last kill came too late

    asked, each = [], embed.embed_each

    def counting(backbone, paths):
        asked.extend(paths)
        return each(backbone, paths)
    monkeypatch.setattr(embed, 'embed_each', counting)
    monkeypatch.setenv('ARCHCLF_CACHE', str(cache))
    train_probe(two_hundred, out)
    assert len(asked) == 200 - reached[2] and embedded(cache) == 200
    assert content(out) == undisturbed
    assert sorted(os.listdir(tmp_path)) == ['cache', 'model']


@pytest.mark.skipif(os.name == 'nt', reason='needs SIGINT')
def test_an_interrupted_run_says_how_to_go_on(two_hundred, tmp_path):
    training = Training(two_hundred, tmp_path/'model', tmp_path/'cache').until(lambda: embedded(tmp_path/'cache') >= 1)
    code, errors = training.end(signal.SIGINT)
    assert code not in (0, -signal.SIGINT) and not (tmp_path/'model').exists()
    assert errors.strip().splitlines()[-1:] == ['archclf: interrupted; run the same command again to go on where it stopped']
    assert 'Traceback' not in errors


def test_the_same_photos_give_the_same_bytes_in_another_process(two_hundred, undisturbed, tmp_path, run):
    "With a new cache, another seed for Python's hashes, and an older model in the way."
    for seed in 'again', '42':
        done = run('train', two_hundred, '--out', tmp_path/'model', *(['--seed', '7'] if seed == 'again' else []),
                   ARCHCLF_CACHE=str(tmp_path/'cache'), PYTHONHASHSEED='3')
        assert done.returncode == 0, done.stderr
        assert (content(tmp_path/'model') == undisturbed) == (seed == '42')


def test_a_damaged_cache_is_reported(drawings, tmp_path, fails):
    "With the file to remove; both kinds: no database at all, and one with damaged pages."
    from archclf.dataset import scan_photos
    old, os.environ['ARCHCLF_CACHE'] = os.environ['ARCHCLF_CACHE'], str(tmp_path/'cache')
    try: scan_photos(drawings)
    finally: os.environ['ARCHCLF_CACHE'] = old
    path, = (tmp_path/'cache').glob('*.sqlite')
    whole = path.read_bytes()
    for damaged in b'not a database' * 1000, whole[:4096] + b'\x5a' * (len(whole) - 4096):
        path.write_bytes(damaged)
        assert str(path) in fails('train', drawings, '--out', tmp_path/'model', ARCHCLF_CACHE=str(tmp_path/'cache'))
    assert not (tmp_path/'model').exists()


def copies(drawings, folder, label, count):
    (folder/label).mkdir(parents=True)
    for path in sorted((drawings/label).iterdir())[:count]: shutil.copy(path, folder/label)


def test_wrong_photos(drawings, tmp_path, fails):
    def refused(folder, words):
        with pytest.raises(ValueError, match=words) as caught: train_probe(folder, tmp_path/'model')
        assert '\n' not in str(caught.value)
        assert not (tmp_path/'model').exists()
    copies(drawings, tmp_path/'few', 'gothic', 8)
    refused(tmp_path/'few', 'one class')
    copies(drawings, tmp_path/'few', 'modern', 4)
    refused(tmp_path/'few', "'modern' has 4; at least 5 are needed")
    shutil.copy(tmp_path/'few'/'modern'/'modern-0000.jpg', tmp_path/'few'/'modern'/'copy.jpg')
    refused(tmp_path/'few', "'modern' has 4; at least 5 are needed")
    shutil.copy(drawings/'modern'/'modern-0004.jpg', tmp_path/'few'/'modern'/'another.jpg')
    train_probe(tmp_path/'few', tmp_path/'enough')
    (tmp_path/'empty').mkdir()
    refused(tmp_path/'empty', 'no class folders')
    refused(drawings/'gothic', 'no class folders')
    refused(drawings/'gothic'/'gothic-0000.jpg', 'a file; expected a folder')
    refused(tmp_path/'nowhere', 'no such folder')
    assert 'no such folder' in fails('train', tmp_path/'nowhere', '--out', tmp_path/'model')


def test_wrong_places_to_write(drawings, tmp_path, fails):
    "Said before the photos are embedded, and nothing there is touched."
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine'/'notes.txt').write_text('mine')
    cache = {'ARCHCLF_CACHE': str(tmp_path/'cache')}
    for out in tmp_path/'mine', tmp_path/'mine'/'notes.txt':
        assert 'not a model folder' in fails('train', drawings, '--out', out, **cache)
    assert not (tmp_path/'cache').exists()
    assert os.listdir(tmp_path/'mine') == ['notes.txt'] and (tmp_path/'mine'/'notes.txt').read_text() == 'mine'
    fails('train', drawings, '--out', tmp_path/'mine'/'notes.txt'/'model')


def test_the_folder_one_stands_in(drawings, tmp_path, run):
    "`--out .` in an empty folder is a reasonable wish."
    (tmp_path/'here').mkdir()
    done = run('train', drawings, '--out', '.', cwd=tmp_path/'here')
    assert done.returncode == 0, done.stderr
    read_model(tmp_path/'here')


def test_another_backbone_folder(drawings, model, tmp_path, fails, run):
    assert 'model.json' in fails('train', drawings, '--out', tmp_path/'model', '--backbone', tmp_path)
    done = run('train', drawings, '--out', tmp_path/'model', '--backbone', model)
    assert done.returncode == 0
    assert (tmp_path/'model'/'head.safetensors').read_bytes() == (model/'head.safetensors').read_bytes()
