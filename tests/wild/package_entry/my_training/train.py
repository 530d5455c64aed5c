import os

from my_training.words import WORDS

if __name__ == "__main__":
    with open(os.path.join(os.environ["SM_MODEL_DIR"], "words.txt"), "w") as f:
        f.write(WORDS)
