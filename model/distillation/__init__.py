"""Fewer evaluations for the same clip: a student that takes several of its teacher's steps at once.

Source: the paper, Sec. 3.4 and Table 1 (from 96 evaluations to 16), after Salimans and Ho 2022.
"""
