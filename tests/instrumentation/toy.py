"""A small library to weave into, written to disk afresh for each test."""

import functools
from pathlib import Path
from textwrap import dedent

from llmspell_instrumentation.joinpoint import Adapter, JoinPoint
from llmspell_otel.operations.call import Codec, Kind

SOURCE = '''
import functools

def plainly(value, *, twice=False):
    """Say it."""
    return value * 2 if twice else value

async def later(value):
    return value

def counting(n):
    yield from range(n)

async def counting_later(n):
    for i in range(n):
        yield i

def decorated(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)
    return inner

@decorated
async def hidden(value):
    return value

class Base:
    def __init__(self, tag="base"):
        self.tag = tag

    def speak(self, word):
        return f"{self.tag}: {word}"

    @classmethod
    def made(cls):
        return cls.__name__

    @staticmethod
    def bare(word):
        return word

class Child(Base):
    pass
'''


def write(folder: Path, name: str) -> None:
    """Put the library under *folder* as a package *name* with one module, `inner`."""
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text(dedent(SOURCE))


def adapter(name: str, *paths: str, requires: str = "wrapt>=1", **options: str) -> Adapter:
    """An adapter for the toy *name*; its "library" is wrapt, which is always installed."""
    point = functools.partial(JoinPoint, kind=Kind.TOOL, codec=Codec(), **options)
    points = tuple(point(target=f"{name}.inner:{path}") for path in paths)
    return Adapter(
        name=name, requires=requires, package=name.partition(".")[0], table=lambda: points
    )
