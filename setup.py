"""The distribution: dependencies, entry points and the two folders that install inside the package."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

setup(
    name="tornado_bridge",
    version="0.1.0",
    description="Relays internal Redis events to WebSocket clients as redacted envelopes.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["tornado_bridge", "tornado_bridge.*"]),
        "tornado_bridge.plugins",
        "tornado_bridge.schemas",
    ],
    package_dir={"tornado_bridge.plugins": "plugins", "tornado_bridge.schemas": "schemas"},
    package_data={
        "tornado_bridge": ["py.typed"],
        "tornado_bridge.cli.skeleton": ["*.template"],
        "tornado_bridge.schemas": ["*.json"],
    },
    install_requires=[
        "click>=8.4",
        "fakeredis>=2.40",
        "hiredis>=3.3",
        "jsonschema>=4.23",
        "jsonschema-rs>=0.55",
        "msgspec>=0.22",
        "pluggy>=1.7",
        "prometheus-client>=0.23.1",
        "pydantic>=2.12",
        "PyYAML>=6",
        "redis>=8.0.1",
        "structlog>=25.5",
        "tomli-w>=1.1",
        "tornado>=6.6",
    ],
    extras_require={
        "benchmark": ["matplotlib>=3.8", "uvloop>=0.21"],
        "testing": ["pytest>=8"],
        "test": [
            "coverage>=7.10",
            "hypothesis>=6.130",
            "pytest>=9,<10",
            "pytest-tornado>=0.8.1",
            "pytest-xdist>=3.8",
            "setuptools>=77,<82",
            "uvloop>=0.21",
            "websockets>=15",
        ],
        "uvloop": ["uvloop>=0.21"],
    },
    entry_points={
        "console_scripts": ["tornado-bridge = tornado_bridge.cli:main"],
        "pytest11": ["tornado_bridge = tornado_bridge.testing.fixtures"],
        "tornado_bridge": [
            "candle = tornado_bridge.plugins.candle",
            "signals = tornado_bridge.plugins.signals",
        ],
    },
    classifiers=[
        "Framework :: AsyncIO",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Typing :: Typed",
    ],
)
