"What is promised of the package as a whole: what it needs, what it imports and when, and what it never does."
import ast
import hashlib
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import archclf

PACKAGE = Path(archclf.__file__).parent
ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(path.stem for path in PACKAGE.glob('*.py') if not path.stem.startswith('_'))
TRAINING = 'network', 'finetune'  # the only ones that may need archclf[train] to be imported
HEAVY = 'torch', 'torchvision', 'fastai', 'timm', 'onnx', 'pandas', 'matplotlib', 'scipy', 'sklearn', 'gradio', 'onnxruntime', 'safetensors', 'huggingface_hub'


@pytest.fixture(scope='module')
def settings():
    parser = ConfigParser(delimiters=['='])
    parser.read(ROOT/'settings.ini', encoding='utf-8')
    return parser['DEFAULT']


def python(code, *arguments, stdin=b'', cwd=None):
    "Standard output of `code` in a fresh interpreter."
    done = subprocess.run([sys.executable, '-c', code, *arguments], input=stdin, capture_output=True, timeout=60, cwd=cwd)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_one_version(settings):
    assert archclf.__version__ == settings['version']


def test_requirements_are_requirements(settings):
    for key in 'requirements', 'train_requirements', 'dev_requirements':
        found = [Requirement(line) for line in settings[key].splitlines() if line.strip()]
        assert found, key
        assert len({requirement.name for requirement in found}) == len(found), f'{key} names a package twice'


def test_requirements_cover_what_the_base_package_imports(settings):
    "Everything imported anywhere in archclf comes with Python, with archclf, or with archclf[train]."
    from importlib.metadata import packages_distributions
    normal = lambda name: name.lower().replace('_', '-')
    wanted = {normal(Requirement(line).name) for key in ('requirements', 'train_requirements') for line in settings[key].splitlines() if line.strip()}
    providers = packages_distributions()
    for name, imported in imports().items():
        if imported in sys.stdlib_module_names or imported == 'archclf': continue
        assert wanted & {normal(found) for found in providers.get(imported, [imported])}, f'{name} imports {imported}, which settings.ini does not name'


def imports():
    "`{module:line: top-level name of what is imported}` for every import statement of the package."
    found = {}
    for module in MODULES:
        for node in ast.walk(ast.parse((PACKAGE/f'{module}.py').read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                found |= {f'{module}:{node.lineno}:{alias.name}': alias.name.split('.')[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom) and not node.level: found[f'{module}:{node.lineno}'] = node.module.split('.')[0]
    return found


CLASSIFY = '''
import sys
before = set(sys.modules)
from archclf.classifier import Classifier
prediction = Classifier.open().classify(sys.stdin.buffer.read())
assert abs(sum(prediction.probabilities.values()) - 1) < 1e-5
names = {name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(*sorted(names - {'__mp_main__'}))
'''


def test_classifying_needs_four_packages(drawings, tmp_path):
    imported = python(CLASSIFY, stdin=next(drawings.rglob('*.jpg')).read_bytes(), cwd=tmp_path).split()
    assert {'archclf', 'numpy', 'onnxruntime', 'safetensors', 'PIL'} == set(imported) - {'defusedxml'}  # Pillow's, where somebody has it


def test_importing_any_module_imports_nothing_heavy(tmp_path):
    light = [name for name in MODULES if name not in TRAINING]
    code = f"import importlib, sys\nfor name in {light}: importlib.import_module('archclf.' + name)\nprint(*(set({HEAVY}) & set(sys.modules)))"
    assert python(code, cwd=tmp_path).split() == []


@pytest.mark.parametrize('path', [*sorted(PACKAGE.rglob('*.py')), *sorted((ROOT/'tools').glob('*.py'))], ids=lambda path: path.name)
def test_nothing_runs_code_from_a_file(path):
    "No pickle under any of its names: the files that archclf opens come from strangers."
    tree = ast.parse(path.read_text(encoding='utf-8'))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        if isinstance(node, ast.ImportFrom): names.append(node.module or '')
        assert not {name.split('.')[0] for name in names} & {'pickle', 'joblib', 'dill', 'cloudpickle', 'shelve', 'marshal', 'load_learner'}, node.lineno
        if not isinstance(node, ast.Call): continue
        called, options = ast.unparse(node.func), {option.arg: ast.unparse(option.value) for option in node.keywords}
        assert called.split('.')[-1] not in ('read_pickle', 'to_pickle', 'load_learner'), (node.lineno, called)
        assert called not in ('eval', 'exec'), (node.lineno, called)
        assert options.get('allow_pickle', 'False') == 'False', (node.lineno, called)
        if called == 'torch.load': assert options.get('weights_only') == 'True', (node.lineno, called)


def test_no_photo_of_others_is_in_git(photos):
    tracked = subprocess.run(['git', '-C', str(ROOT), 'ls-files', '-s'], capture_output=True, text=True)
    if tracked.returncode: pytest.skip(f'not in a git checkout: {tracked.stderr.strip()}')
    blobs = {line.split()[1]: line.split('\t')[1] for line in tracked.stdout.splitlines()}
    for path in photos.rglob('*'):
        if not path.is_file() or path.suffix in ('.md', '.csv') or not path.stat().st_size: continue
        data = path.read_bytes()
        assert hashlib.sha1(b'blob %d\0' % len(data) + data).hexdigest() not in blobs, f'{path} is tracked'


def test_only_training_imports_torch():
    found = {place.split(':')[0] for place, name in imports().items() if name in ('torch', 'torchvision', 'fastai', 'timm', 'onnx', 'accelerate')}
    assert found == {*TRAINING, 'machine'}  # machine asks torch which graphics card there is, within a function
