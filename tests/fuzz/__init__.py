"""Every reader of a user's files against mutated files: refused in one line, or read; never an exception, never a hang.

python -m tests.fuzz --files 10000 --seed 0
"""
