"""A Kaggle of one competition on this machine, for tests and for trying the pipeline without an account.

It speaks the official client's protocol as far as the pipeline uses it, keeps accounts, rules, daily limits and a
solution, scores what is uploaded, and misbehaves on demand. It listens on 127.0.0.1 and nowhere else.
"""
