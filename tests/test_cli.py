"The command as it is typed: what it prints where, its exit codes, odd names, closed pipes, and one line for every mistake."
import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import COMMAND

from archclf.classifier import read_model
from archclf.sample import draw_facade

KEYS = ['path', 'label', 'confidence', 'sure', 'probabilities']
COMMANDS = 'collect', 'predict', 'train', 'report', 'demo', 'app', 'doctor'


@pytest.fixture
def folder(drawings, tmp_path):
    "Three drawings and a page that is none."
    for label in 'gothic', 'modern', 'victorian': shutil.copy(drawings/label/f'{label}-0001.jpg', tmp_path/f'{label}.jpg')
    (tmp_path/'page.jpg').write_text('<html>404</html>')
    return tmp_path


def test_predict_prints_a_line_each(run, folder):
    done = run('predict', 'modern.jpg', 'gothic.jpg', 'modern.jpg', cwd=folder)
    assert (done.returncode, done.stderr) == (0, '')
    assert [line.split(': ')[0] for line in done.stdout.splitlines()] == ['modern.jpg', 'gothic.jpg', 'modern.jpg']


def test_predict_goes_on_after_an_error(run, folder):
    done = run('predict', 'page.jpg', 'gothic.jpg', 'nowhere.jpg', 'modern.jpg', cwd=folder)
    assert done.returncode == 1
    assert [line.split(': ')[0] for line in done.stdout.splitlines()] == ['gothic.jpg', 'modern.jpg']
    assert [line.split(': ')[0] for line in done.stderr.splitlines()] == ['page.jpg', 'nowhere.jpg']


def test_json(run, folder, model):
    done = run('predict', '--json', '--model', model, 'page.jpg', 'gothic.jpg', 'nowhere.jpg', 'modern.jpg', cwd=folder)
    assert (done.returncode, done.stderr) == (1, '')
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line['path'] for line in lines] == ['page.jpg', 'gothic.jpg', 'nowhere.jpg', 'modern.jpg']
    for line in lines[::2]: assert list(line) == ['path', 'error'] and line['error'].startswith(line['path'])
    info, _ = read_model(model)
    for line in lines[1::2]:
        assert list(line) == KEYS
        values = list(line['probabilities'].values())
        assert sorted(line['probabilities']) == info['labels'] and values == sorted(values, reverse=True)
        assert next(iter(line['probabilities'].items())) == (line['label'], line['confidence'])
        assert line['sure'] is (line['confidence'] >= info['threshold']) and sum(values) == pytest.approx(1, abs=1e-5)


def test_folders_and_standard_input(run, folder, drawings):
    (folder/'manifest.csv').write_text('path')
    (folder/'.hidden.jpg').write_text('')
    (folder/'sub').mkdir()
    (folder/'modern.jpg').rename(folder/'sub'/'modern.jpg')
    done = run('predict', '--json', '.', cwd=folder)
    assert [json.loads(line)['path'] for line in done.stdout.splitlines()] == ['gothic.jpg', 'page.jpg', 'sub/modern.jpg', 'victorian.jpg']
    assert done.returncode == 1
    done = run('predict', '--json', 'sub', '-', 'gothic.jpg', cwd=folder, stdin='victorian.jpg\n\nnowhere.jpg\r\nsub/modern.jpg')
    assert [json.loads(line)['path'] for line in done.stdout.splitlines()] == [
        'sub/modern.jpg', 'victorian.jpg', 'nowhere.jpg', 'sub/modern.jpg', 'gothic.jpg']


def test_many_photos_keep_their_order(run, drawings):
    names = [str(path) for path in sorted(drawings.rglob('*.jpg'))][::-1]
    done = run('predict', '--json', '-', stdin='\n'.join([*names, *names[:9]]))
    assert [json.loads(line)['path'] for line in done.stdout.splitlines()] == [*names, *names[:9]]
    assert done.returncode == 0


ODD = [' leading.jpg', 'trailing.jpg ', '-rf.jpg', '--help', 'ä ö ü.jpg', '建筑.jpg', '😀.jpg', "it's \"quoted\".jpg", 'a\tb.jpg', '100%.jpg', '{x}.jpg', '~.jpg',
       'no suffix', 'back\\slash.jpg', '*.jpg']


@pytest.mark.skipif(os.name == 'nt', reason='Windows has fewer odd names')
def test_odd_names(run, folder, tmp_path):
    odd = tmp_path/'odd'
    odd.mkdir()
    for name in ODD: shutil.copy(folder/'gothic.jpg', odd/name)
    done = run('predict', '--json', '--', *ODD, cwd=odd)
    assert (done.returncode, done.stderr) == (0, '')
    assert [json.loads(line)['path'] for line in done.stdout.splitlines()] == ODD
    done = run('predict', '--', *ODD, cwd=odd)
    assert [line.rsplit(': ', 1)[0].removesuffix(': not sure') for line in done.stdout.splitlines()] == ODD
    done = run('predict', '--json', '-', cwd=odd, stdin=''.join(f'{name}\n' for name in ODD))
    assert (done.returncode, [json.loads(line)['path'] for line in done.stdout.splitlines()]) == (0, ODD)


@pytest.mark.skipif(sys.platform != 'linux', reason='other systems do not allow such names')
@pytest.mark.parametrize('options', [['--json'], []])
def test_names_that_are_no_text(run, folder, options):
    "Old archives leave names that are not UTF-8; one of them must not end the run, whatever the terminal is set to."
    (folder/'page.jpg').rename(folder/'\udce9.jpg')
    shutil.copy(folder/'gothic.jpg', folder/'caf\udce9.jpg')
    for encoding in 'utf-8:strict', 'ascii:strict':
        done = run('predict', *options, '.', cwd=folder, PYTHONIOENCODING=encoding)
        assert done.returncode == 1 and 'Traceback' not in done.stderr
        assert len(done.stdout.splitlines()) + len(done.stderr.splitlines()) == 5
        if options: assert [json.loads(line)['path'] for line in done.stdout.splitlines()][0] == 'caf\udce9.jpg'
    done = run('predict', *options, '-', cwd=folder, stdin='gothic.jpg\ncaf\udce9.jpg\nmodern.jpg\n', PYTHONIOENCODING='utf-8:strict')
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3)


@pytest.mark.skipif(os.name == 'nt', reason='Windows does not allow such names')
def test_a_name_of_two_lines(run, folder):
    shutil.copy(folder/'gothic.jpg', folder/'two\nlines.jpg')
    (folder/'bad\nname.jpg').write_text('')
    done = run('predict', '--json', 'two\nlines.jpg', 'bad\nname.jpg', cwd=folder)
    assert [json.loads(line)['path'] for line in done.stdout.splitlines()] == ['two\nlines.jpg', 'bad\nname.jpg']


@pytest.mark.parametrize('name', ['a' * 300 + '.jpg', 'x/' * 3000 + 'a.jpg', 'a\0b.jpg', '.'])
def test_impossible_names_do_not_end_the_run(run, folder, name):
    done = run('predict', '--json', '-', cwd=folder, stdin=f'gothic.jpg\n{name}\nmodern.jpg\n')
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert ['error' in line for line in lines] == [False, True, False], done.stderr
    assert (done.returncode, done.stderr) == (1, '')


@pytest.mark.skipif(os.name == 'nt', reason='needs a pipe that can be closed')
def test_a_closed_pipe(drawings, tmp_path):
    "As in `archclf predict drawings | head -1`: no traceback, no complaint."
    process = subprocess.Popen([*COMMAND, 'predict', str(drawings)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    assert process.stdout.readline().strip()
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) in (0, 1, 141)
    assert errors == ''


@pytest.mark.parametrize('arguments', [['bogus'], ['--bogus'], ['predict', '--bogus', 'x.jpg'], ['predict'], ['train'], ['train', 'x'],
    ['train', 'x', '--out', 'y', '--seed', 'many'], ['demo', '--per-style', '4'], ['app', '--port', '0'], ['app', '--port', '70000'], ['predict', 'x', '--model']])
def test_wrong_usage(run, arguments):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, '')
    assert 'Error: ' in done.stderr.splitlines()[-1] and 'Traceback' not in done.stderr


@pytest.mark.parametrize('model', ['nowhere', 'empty', 'gothic.jpg', '.'])
@pytest.mark.parametrize('command', [['predict', 'gothic.jpg'], ['app']], ids=lambda command: command[0])
def test_wrong_models(fails, folder, command, model):
    (folder/'empty').mkdir()
    message = fails(*command, '--model', model, cwd=folder)
    assert model in message and 'expected a model folder' in message


def test_doctor_of_a_wrong_model(run, tmp_path):
    "It has said something else before, on standard output."
    done = run('doctor', '--model', tmp_path)
    assert done.returncode == 2 and f'{tmp_path}: no model.json here' in done.stderr and done.stderr.count('\n') == 1


def test_an_app_on_somebody_elses_host(fails):
    "A documentation address (RFC 5737), which no machine has: the host is wrong, not the port."
    assert 'Cannot serve on 192.0.2.1' in (said := fails('app', '--host', '192.0.2.1')) and 'port' not in said


def test_nothing_to_predict(fails, tmp_path):
    (tmp_path/'empty').mkdir()
    assert 'no photos here' in fails('predict', 'empty', cwd=tmp_path)
    assert 'no photos here' in fails('predict', '-', cwd=tmp_path)


def test_train_and_report_list_what_they_left_out(run, drawings, tmp_path):
    shutil.copytree(drawings, tmp_path/'photos')
    (tmp_path/'photos'/'gothic'/'page.jpg').write_text('<html>')
    done = run('train', 'photos', '--out', 'model', cwd=tmp_path)
    assert done.returncode == 0 and 'wrote model' in done.stdout and '64 photos in 8 classes, 0 of them near-duplicates, 1 files left out' in done.stdout
    assert done.stderr.splitlines() == ['left out: photos/gothic/page.jpg: ' + done.stderr.split(': ', 2)[2].strip()]
    done = run('report', 'photos', '--out', 'report.html', cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path/'report.html').read_text(encoding='utf-8').rstrip().endswith('</html>')
    assert sorted(os.listdir(tmp_path)) == ['model', 'photos', 'report.html']


def test_doctor_is_content(run, model):
    done = run('doctor', '--model', model)
    assert 'classifier: drawn, 8 classes' in done.stdout and os.environ['ARCHCLF_CACHE'] in done.stdout
    assert (done.returncode, done.stderr) == (0, ''), done.stdout
    assert 'no known conflicts' in done.stdout


@pytest.mark.parametrize('package, version, remedy', [
    ('plum-dispatch', '2.11.0', "pip install 'plum-dispatch<2.10'"), ('plum-dispatch', '3.0', "pip install 'plum-dispatch<2.10'"),
    ('onnxruntime-gpu', '1.31.1', 'pip uninstall onnxruntime-gpu')])
def test_doctor_finds_conflicts(run, tmp_path, package, version, remedy):
    for name, found in (package, version), ('fastai', '2.8.12'):
        info = tmp_path/f"{name.replace('-', '_')}-{found}.dist-info"
        info.mkdir()
        (info/'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {found}\n')
    done = run('doctor', PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')]))
    assert done.returncode == 1 and done.stderr == ''
    problems = [line for line in done.stdout.splitlines() if line.startswith('problem: ')]
    assert len(problems) == 1 and remedy in problems[0] and package in problems[0]


BLOCK = '''
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('pandas', 'scipy', 'gradio', 'onnxruntime', 'matplotlib', 'sklearn', 'torch', 'fastai', 'safetensors', 'numpy', 'PIL'):
            raise ImportError(f'{name} was imported too early')
sys.meta_path.insert(0, Block())
'''


@pytest.mark.parametrize('command', [[], *([name] for name in COMMANDS)], ids=lambda command: ' '.join(['archclf', *command]))
def test_help_needs_nothing(run, command):
    for option in '--help', '-h':
        done = run(*command, option, before=BLOCK)
        assert (done.returncode, done.stderr) == (0, '')
        assert 'Usage: ' in done.stdout
    if not command: assert all(name in done.stdout for name in COMMANDS)


def test_version_needs_nothing(run):
    import archclf
    assert run('--version', before=BLOCK).stdout == f'archclf {archclf.__version__}\n'


def test_the_block_blocks(run):
    assert 'too early' in run('predict', 'x.jpg', before=BLOCK).stderr


def test_the_installed_command_is_this_one():
    "What pip puts on the path is `archclf.cli:main`."
    from importlib.metadata import entry_points
    command, = entry_points(group='console_scripts', name='archclf')
    assert command.value == 'archclf.cli:main'
    assert command.load().__name__ == 'main'


@pytest.mark.parametrize('out', ['README.md', 'folder'])
def test_a_report_overwrites_nothing_else(fails, drawings, tmp_path, out):
    (tmp_path/'README.md').write_text('mine')
    (tmp_path/'folder').mkdir()
    assert 'ends in .html' in fails('report', drawings, '--out', tmp_path/out)
    assert (tmp_path/'README.md').read_text() == 'mine' and sorted(path.name for path in tmp_path.iterdir()) == ['README.md', 'folder']


def test_copies_under_two_labels_are_listed_and_never_give_nan(run, tmp_path):
    for label in 'a', 'b':
        (tmp_path/'photos'/label).mkdir(parents=True)
        for number in range(8): draw_facade('gothic', f'0/{number}').save(tmp_path/'photos'/label/f'{number}.png')
    done = run('train', tmp_path/'photos', '--out', tmp_path/'model')
    assert done.returncode == 0 and 'nan' not in done.stdout.lower()
    assert done.stderr.count('copies under different labels') == 16
    json.loads((tmp_path/'model'/'model.json').read_text(), parse_constant=pytest.fail)


def test_a_demo_writes_into_no_other_folder(fails, tmp_path):
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine'/'thesis.txt').write_text('mine')
    assert 'thesis.txt' in fails('demo', '--out', tmp_path/'mine')
