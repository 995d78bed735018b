"""A stand-in for Kaggle with one competition, for tests and for trying the pipeline without an account.

It implements the part of the official client's protocol that the pipeline uses: accounts, rules, files, daily limits,
submissions and their scores. It fails on demand (`tests.standin.faults`). It listens on 127.0.0.1 only.
"""
