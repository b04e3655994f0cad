"""Packaging; everything that can be declared is in setup.cfg."""

from setuptools import setup

setup()
