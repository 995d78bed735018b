"""Disturb train, predict, download and blend at random moments, repeat the command and compare its result.

`stages` lays out what a stage needs and reads its result, `processes` runs a command in a process group of its own, and
`disturbances` disturbs it and judges how it ended.
"""
