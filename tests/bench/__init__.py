"""Speed as ratios: each figure beside a peer or a plain reference, alternating in one run (`make bench`).

Absolute figures vary with the machine and its load; a changed ratio shows a change of the code.
"""
