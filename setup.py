"Package metadata, read from settings.ini."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

parser = ConfigParser(delimiters=['='])
parser.read('settings.ini', encoding='utf-8')
settings = parser['DEFAULT']


def lines(name):
    "The non-empty lines of the setting `name`"
    return [line.strip() for line in settings.get(name, '').splitlines() if line.strip()]


setup(
    version=settings['version'],
    description=settings['description'],
    long_description=Path('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=settings['author'],
    license=settings['license'],
    url=settings['git_url'] or None,
    keywords=settings['keywords'].split(),
    classifiers=[f'Programming Language :: Python :: {version}' for version in settings['python_versions'].split()],
    python_requires='>=' + settings['min_python'],
    packages=find_packages(include=['archclf', 'archclf.*']),
    package_data={'archclf': ['models/*/*', 'languages/*.json', 'static/*']},
    install_requires=lines('requirements'),
    extras_require={extra: lines(f'{extra}_requirements') for extra in ('train', 'mcp', 'dev')},
    entry_points={'console_scripts': lines('console_scripts'), 'nbdev': ['archclf=archclf._modidx:d']},
)
