from setuptools import setup

setup(name="my_training", version="1.0", packages=["my_training"])
