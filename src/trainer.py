"""Train an encoder and score it on the test split (the command `l63fast train`).

python src/trainer.py --model gru --obs_mode xy --save_dir results/gru_xy
"""

from l63fast.cli import main

if __name__ == "__main__":
    main("train")
