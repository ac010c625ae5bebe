"Training whole networks: what it resumes from, what it exports, what it says without its libraries."
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from archclf.classifier import Classifier, explain, transform
from archclf.dataset import scan_photos, split_photos
from archclf.image import ImageError, read_image

ROOT = Path(__file__).resolve().parents[1]
QUICK = '--size', '64', '--epochs', '2'
pytestmark = pytest.mark.filterwarnings('ignore::FutureWarning', 'ignore::UserWarning', 'ignore::DeprecationWarning')


def start(*arguments, cwd, launch=(), **environment):
    command = [sys.executable, *launch, '-m', 'archclf', *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def finish(process):
    out = process.communicate(timeout=300)[0]
    assert process.returncode == 0, out
    return out


def metrics(folder): return json.loads((folder/'model.json').read_text())['metrics']


@pytest.fixture(scope='module')
def undisturbed(drawings, tmp_path_factory):
    folder = tmp_path_factory.mktemp('undisturbed')
    out = finish(start('finetune', drawings, '--out', 'model', *QUICK, cwd=folder))
    assert 'held back from training' in out and [path.name for path in folder.iterdir()] == ['model']
    return folder/'model'


def test_killed_after_an_epoch_it_goes_on(drawings, undisturbed, tmp_path):
    process, kept = start('finetune', drawings, '--out', 'model', *QUICK, cwd=tmp_path), tmp_path/'model.checkpoints'/'whole.safetensors'
    while not kept.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path/'model').exists()
    finish(start('finetune', drawings, '--out', 'model', *QUICK, cwd=tmp_path))
    assert abs(metrics(tmp_path/'model')['accuracy'] - metrics(undisturbed)['accuracy']) < .005
    weights = [Classifier.open(folder).head.weight for folder in (tmp_path/'model', undisturbed)]
    assert abs(weights[0] - weights[1]).max() < .02 * abs(weights[1]).max()
    assert [path.name for path in tmp_path.iterdir()] == ['model']


def test_two_processes_are_as_good_as_one(drawings, undisturbed, tmp_path):
    launch = '-m', 'accelerate.commands.launch', '--cpu', '--num_processes', '2', '--num_machines', '1', '--mixed_precision', 'no', '--dynamo_backend', 'no', '--main_process_port', '0'
    process = subprocess.Popen([sys.executable, *launch, '-m', 'archclf', 'finetune', str(drawings), '--out', 'model', *QUICK], cwd=tmp_path, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    out = finish(process)
    assert out.count('wrote model') == 1, out
    assert abs(metrics(tmp_path/'model')['accuracy'] - metrics(undisturbed)['accuracy']) < .1


@pytest.fixture(scope='module')
def table(photos):
    "A hundred real photos to validate on, and as many to train on."
    table, _ = scan_photos(photos/'styles8')
    table = table.groupby('label').head(26).reset_index(drop=True)
    return split_photos(table, valid=.5)


@pytest.mark.parametrize('arch, size', [('tf_efficientnet_lite0', 224), ('resnet18', 128), ('convnext_atto', 128), ('vit_tiny_patch16_224', 128)])
def test_torch_and_the_model_folder_agree(arch, size, table, photos, tmp_path):
    from archclf.finetune import make_learner, photo_loaders, probabilities_of, probe_head, save_learner
    from archclf.network import make_body
    loaders, body = photo_loaders(table, size, workers=0), make_body(arch, size, pretrained=arch.startswith('tf_'))
    learn = make_learner(loaders, body, probe_head(loaders, body, table))
    save_learner(tmp_path/'model', learn, table, size)
    classifier, files = Classifier.open(tmp_path/'model'), []
    for path in sorted((photos/'odd').iterdir()):
        try: read_image(path)
        except ImageError: continue
        files.append(path)
    paths = [*map(str, files), *table.path[table.split == 'valid'][:100 if arch.startswith('tf_') else 20]]
    temperature = classifier.info['temperature']
    found = np.array([[said[label] for label in classifier.head.labels] for said in (classifier.classify(path).probabilities for path in paths)])
    expected = probabilities_of(learn, paths) ** (1 / temperature)
    assert len(files) > 20 and abs(found - expected / expected.sum(1, keepdims=True)).max() < 2e-3 / min(1, temperature)
    square, evidence = explain(classifier, paths[0], label := classifier.head.labels[0])
    row = transform(classifier.backbone.run(square[None])[0], 'sqrt_l2') @ classifier.head.weight[0]
    assert label and evidence.shape == (size // (16 if 'vit' in arch else 32),) * 2 and abs(evidence.mean() - row) < 1e-3 * abs(row) + 1e-4


def test_a_learner_from_elsewhere(drawings, tmp_path):
    from archclf.finetune import save_learner, split_like
    from fastai.vision.all import ImageDataLoaders, Learner, Resize, nn, vision_learner
    from torchvision.models import resnet18
    loaders = ImageDataLoaders.from_folder(drawings, valid_pct=.2, seed=42, item_tfms=Resize(64), bs=16, num_workers=0)
    learn, table = vision_learner(loaders, resnet18, pretrained=False), split_photos(scan_photos(drawings)[0])
    with pytest.raises(ValueError, match='to validate on were trained on'): save_learner(tmp_path/'model', learn, table, size=64)
    table = split_like(learn, table)
    assert (table.split == 'valid').sum() == len(loaders.valid_ds)
    save_learner(tmp_path/'model', learn, table, size=64, crop=1.)
    classifier = Classifier.open(tmp_path/'model')
    assert not classifier.has_maps and classifier.classify(table.path[0]).label in set(table.label)
    with pytest.raises(ValueError, match='no feature maps'): explain(classifier, table.path[0])
    from archclf.app import answer_html
    from archclf.words import Words
    assert '<figure>' not in answer_html(classifier, {'path': table.path[0], 'orig_name': 'a.jpg'}, Words.open())
    with pytest.raises(ValueError, match='expected one from vision_learner'): save_learner(tmp_path/'other', Learner(loaders, nn.Linear(3, 8), loss_func=nn.CrossEntropyLoss()), table)
    assert not (tmp_path/'other').exists()


def test_a_file_that_disagrees_is_not_written(table, tmp_path, monkeypatch):
    from archclf import finetune
    from archclf.network import make_body
    loaders, body = finetune.photo_loaders(table, 64, workers=0), make_body(size=64)
    learn = finetune.make_learner(loaders, body, finetune.probe_head(loaders, body, table))
    export = finetune.export_body

    def bent(body, *rest):
        body.network.conv_stem.weight.data *= 1.05
        try: return export(body, *rest)
        finally: body.network.conv_stem.weight.data /= 1.05
    monkeypatch.setattr(finetune, 'export_body', bent)
    with pytest.raises(RuntimeError, match='differs from torch by'): finetune.save_learner(tmp_path/'model', learn, table, 64)
    assert not (tmp_path/'model').exists()


@pytest.mark.parametrize('package', ['torch', 'timm', 'onnx', 'fastai'])
def test_without_the_libraries_one_line_says_what_to_install(fails, drawings, package):
    said = fails('finetune', drawings, '--out', 'model', before=f'import sys; sys.modules[{package!r}] = None; ')
    assert f"{package} is not installed" in said and "pip install 'archclf[train]'" in said


def test_wrong_settings(fails, drawings, tmp_path):
    assert "timm knows no such network; try" in fails('finetune', drawings, '--out', 'm', '--arch', 'tf_efficientnet_lite9')
    assert "expected one of plain, gentle" in fails('finetune', drawings, '--out', 'm', '--recipe', 'fast')
    assert "expected some of shipped, probe, plain, gentle" in fails('compare', drawings, '--rungs', 'probe,best')
    (tmp_path/'notes.txt').write_text('mine')
    assert 'exists and is not a model folder' in fails('finetune', drawings, '--out', tmp_path)


def test_weights_that_cannot_be_fetched(fails, drawings):
    said = fails('finetune', drawings, '--out', 'm', '--arch', 'resnet18', HF_HUB_OFFLINE='1')
    assert 'resnet18: its weights could not be fetched' in said and 'tf_efficientnet_lite0' in said


def test_the_ladder(run, fails, drawings, tmp_path):
    from archclf.sample import draw_facades
    elsewhere = draw_facades(tmp_path/'elsewhere', per_style=3, seed=11)
    (elsewhere/'gothic'/'page.jpg').write_text('<html>')
    (elsewhere/'gothic'/'same.jpg').write_bytes(next((drawings/'gothic').glob('*.jpg')).read_bytes())
    done = run('compare', drawings, '--rungs', 'shipped,probe', '--naive', '--outside', elsewhere, '--figure', tmp_path/'ladder.svg')
    assert done.returncode == 0, done.stderr
    assert 'page.jpg: this is not a JPEG' in done.stderr and 'same.jpg: a copy of a photo to train on' in done.stderr
    assert (tmp_path/'ladder.svg').read_text().count('<svg') == 1
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [[rung, exam] for rung in ('shipped', 'probe') for exam in ('grouped', 'outside', 'naive')]
    (elsewhere/'gothic').rename(elsewhere/'gothick')
    assert "the class 'gothick' is not among those to train on" in fails('compare', drawings, '--outside', elsewhere)
    assert 'ends in .png, .svg or .pdf' in fails('compare', drawings, '--figure', 'nowhere/ladder.png')
    cats = shutil.copytree(drawings, tmp_path/'cats')
    (cats/'gothic').rename(cats/'cats')
    done = run('compare', cats, '--rungs', 'shipped')
    assert (done.returncode, done.stdout) == (2, '') and 'it does not know cats' in done.stderr and 'no rung is left' in done.stderr


def test_few_photos_are_trained_on_all_the_same(drawings, tmp_path):
    "A batch larger than the set would be no step at all."
    for label in ('gothic', 'modern'): shutil.copytree(drawings/label, tmp_path/'two'/label)
    out = finish(start('finetune', 'two', '--out', 'model', '--size', '64', '--epochs', '1', cwd=tmp_path))
    assert 'epoch 1' in out and 'nan' not in out
    shutil.rmtree(tmp_path/'two'/'gothic')
    shutil.copytree(drawings/'gothic', tmp_path/'two'/'gothic', ignore=lambda folder, names: names[3:])
    process = start('finetune', 'two', '--out', 'other', cwd=tmp_path)
    assert "'gothic' has 3; at least 5 are needed" in process.communicate(timeout=100)[0] and process.returncode == 2


def test_what_is_done_stays_when_a_rung_fails(drawings):
    from archclf.compare import RUNGS, climb
    table, calls = scan_photos(drawings)[0], []

    def fails_later(*arguments):
        calls.append(arguments)
        if len(calls) > 1: raise ValueError('no luck')
        return RUNGS['shipped'](*arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RUNGS, 'plain', fails_later)
        results, reasons = climb(table, ['plain'], naive=True)
    assert list(results.exam) == ['grouped'] and reasons == {'plain': 'no luck'}


def test_the_notebook_for_kaggle(tmp_path):
    import papermill
    parameters = {'PHOTOS': 'drawn', 'PER_CLASS': 8, 'RUNGS': ['shipped', 'probe', 'gentle'], 'EPOCHS': 1, 'SIZE': 64, 'OUT': str(tmp_path)}
    done = papermill.execute_notebook(ROOT/'nbs'/'tutorials'/'kaggle_gpu.ipynb', tmp_path/'run.ipynb', parameters, cwd=tmp_path, progress_bar=False, kernel_name='python3')
    text = ''.join(output.get('text', '') for cell in done.cells for output in cell.get('outputs', []))
    assert 'training on a processor' in text and 'gentle grouped' in text
    assert Classifier.open(tmp_path/'model').info['metrics']['photos'] > 5
    assert json.loads((ROOT/'nbs'/'tutorials'/'kernel-metadata.json').read_text())['code_file'] == 'kaggle_gpu.ipynb'


def test_cards_that_are_too_old():
    from archclf.machine import check_card
    with pytest.raises(RuntimeError, match='choose GPU T4 x2'): check_card('Tesla P100-PCIE-16GB', (6, 0), ['sm_75', 'sm_80', 'sm_90a', 'sm_120'])
    check_card('Tesla T4', (7, 5), ['sm_75', 'sm_80'])
