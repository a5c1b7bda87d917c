"""Draw the figures of a result (the command `l63fast visualize`).

python src/visualize.py --result_dir results/gru_xy
"""

from l63fast.cli import main

if __name__ == "__main__":
    main("visualize")
